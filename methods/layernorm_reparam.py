"""LayerNorm scale reparameterization (RepQ-ViT, arXiv 2212.08254): from a grid a channel to one grid, at no cost.

A LayerNorm's output X differs much between channels, so its grid is first found per channel (s, z). Multiplying and
shifting channel c by r1[c] and r2[c] makes one grid (s~, z~) fit all; the LayerNorm before it and the layer after it
take that up, and the function in floating point stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from timm.models.swin_transformer import PatchMerging
from torch import Tensor, nn

from vitq.methods.base import UnsupportedError
from vitq.methods.explicit import ExplicitBlock, ExplicitSwinBlock

PAIRS: dict[type[nn.Module], list[tuple[str, str]]] = {
    ExplicitBlock: [("norm1", "attn.qkv"), ("norm2", "mlp.fc1")],
    ExplicitSwinBlock: [("norm1", "attn.qkv"), ("norm2", "mlp.fc1")],
    PatchMerging: [("norm", "reduction")],
}
"""By class: which LayerNorm feeds which layer. A block of another library is one more entry."""


@dataclass(frozen=True)
class Pair:
    """A LayerNorm, the layer it feeds, and the block around them, with the layer's path in the model."""

    name: str
    block: nn.Module
    norm: nn.LayerNorm
    layer: nn.Linear


def layernorm_pairs(model: nn.Module) -> Iterator[Pair]:
    """Every LayerNorm that directly feeds a layer, in forward order.

    The final norm is not among them: the class token is taken from its output. Raises UnsupportedError where the norm
    has no weight and bias that could take up a scale and a shift.
    """
    for path, block in model.named_modules():
        for norm_name, layer_name in PAIRS.get(type(block), []):
            norm, layer = block.get_submodule(norm_name), block.get_submodule(layer_name)
            if not isinstance(norm, nn.LayerNorm) or norm.weight is None or norm.bias is None:
                raise UnsupportedError(
                    f"{path}.{norm_name} is a {type(norm).__name__} without weight and bias to rescale"
                )
            assert isinstance(layer, nn.Linear)
            yield Pair(f"{path}.{layer_name}" if path else layer_name, block, norm, layer)


def give_bias(layer: nn.Linear) -> None:
    """Create a zero bias where there is none (Swin's reduction), to take up the shift."""
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros_like(layer.weight[:, 0]), requires_grad=layer.weight.requires_grad)


@torch.no_grad()
def reparameterize(pair: Pair, scale: Tensor, zero_point: Tensor, rounded: bool) -> tuple[Tensor, Tensor]:
    """Move the per-channel grid (s, z), both [C], into norm and layer; returns the per-tensor grid (s~, z~).

    s~ = mean(s), z~ = mean(z), rounded or not; r1 = s/s~, r2 = z - z~:
    gamma~ = gamma/r1, beta~ = (beta + s*r2)/r1, W~[:, c] = r1[c]*W[:, c], b~ = b - W(s*r2).
    In a Swin block the zeros that pad norm1's output become s*r2/r1, what the new norm1 gives in their place.
    """
    norm, layer = pair.norm, pair.layer
    mean_scale, mean_zero = scale.mean(), zero_point.mean()
    mean_zero = mean_zero.round() if rounded else mean_zero
    r1, shift = scale / mean_scale, scale * (zero_point - mean_zero)
    give_bias(layer)
    layer.bias.sub_(layer.weight @ shift)
    layer.weight.mul_(r1)
    norm.bias.add_(shift).div_(r1)
    norm.weight.div_(r1)
    if isinstance(pair.block, ExplicitSwinBlock) and norm is pair.block.norm1:
        pair.block.pad_value = shift / r1
    return mean_scale, mean_zero

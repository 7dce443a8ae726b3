"""LayerNorm scale reparameterization (RepQ-ViT, arXiv 2212.08254): from a grid a channel to one grid, at no cost.

A LayerNorm's output X differs much between channels, so its grid is first found per channel (s, z). Multiplying and
shifting channel c by r1[c] and r2[c] makes one grid (s~, z~) fit all; the LayerNorm before it and the layer after it
take that up, and the function in floating point stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitq.errors import UnsupportedError
from vitq.methods.architectures.roles import NormFeed, Roles
from vitq.methods.toolkit.quantizers import Quantizer

_FAR = 1024.0


@dataclass(frozen=True)
class Pair:
    """A LayerNorm and the layer that it alone feeds; `moved` as in `roles.NormFeed`."""

    norm: nn.LayerNorm
    layer: nn.Linear
    moved: Callable[[Tensor], None] | None = None


def layernorm_pairs(roles: Roles) -> list[Pair]:
    """Every LayerNorm that feeds one layer alone, with that layer as it is now, in forward order.

    The final norm is not among them: the class token is taken from its output. Raises UnsupportedError where the norm
    has no weight and bias that could take up a scale and a shift, or the layer no weight a channel.
    """
    return [_pair(roles, feed) for feed in roles.norm_feeds]


def _pair(roles: Roles, feed: NormFeed) -> Pair:
    norm, layer = roles.module(feed.norm), roles.module(feed.layer)
    if not isinstance(norm, nn.LayerNorm) or norm.weight is None or norm.bias is None:
        raise UnsupportedError(f"{feed.norm} is a {type(norm).__name__} without weight and bias to rescale")
    if not isinstance(layer, nn.Linear):
        raise UnsupportedError(f"{feed.layer}, which {feed.norm} feeds, is a {type(layer).__name__} and no Linear")
    return Pair(norm, layer, feed.moved)


def give_bias(layer: nn.Linear) -> None:
    """Create a zero bias where there is none (Swin's reduction), to take up the shift."""
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros_like(layer.weight[:, 0]), requires_grad=layer.weight.requires_grad)


@torch.no_grad()
def reparameterize(
    pair: Pair, scale: Tensor, zero_point: Tensor, rounded: bool, constants: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Move the per-channel grid (s, z), both [C], into norm and layer; returns the per-tensor grid (s~, z~).

    s~ = mean(s), z~ = mean(z), rounded or not; r1 = s/s~, r2 = z - z~:
    gamma~ = gamma/r1, beta~ = (beta + s*r2)/r1, W~[:, c] = r1[c]*W[:, c], b~ = b - W(s*r2).
    Where the model pads the norm's output with zeros, these become s*r2/r1, what the new norm gives instead of them.

    `constants` [C] are the values of channels that have only one, NaN for the others. Such a channel has no grid of its
    own to be averaged: its value goes into the layer's bias whole and its scale stays (r1 = 1), so that it lies on the
    common grid exactly and moves no other channel. A channel that all but stands still, its zero point further than
    1,024 ranges from zero, is rescaled as any other but left out of the means: one of them would carry the grid of all
    away from where their values are.
    """
    norm, layer = pair.norm, pair.layer
    constant = torch.zeros_like(scale, dtype=torch.bool) if constants is None else ~torch.isnan(constants)
    mean_scale, mean_zero = _means(scale, zero_point, constant, _FAR * _top(pair))
    mean_zero = mean_zero.round() if rounded else mean_zero
    r1, shift = scale / mean_scale, scale * (zero_point - mean_zero)
    if constants is not None and bool(constant.any()):
        r1 = torch.where(constant, torch.ones_like(r1), r1)
        shift = torch.where(constant, _near_zero(pair, mean_zero) * mean_scale - constants, shift)
    give_bias(layer)
    layer.bias.sub_(layer.weight @ shift)
    layer.weight.mul_(r1)
    norm.bias.add_(shift).div_(r1)
    norm.weight.div_(r1)
    if pair.moved is not None:
        pair.moved(shift / r1)
    return mean_scale, mean_zero


def _means(scale: Tensor, zero_point: Tensor, constant: Tensor, far: float) -> tuple[Tensor, Tensor]:
    """Mean grid of the channels that vary; where none does, a step of 1 that nothing needs."""
    varying = ~constant & (zero_point.abs() <= far)
    if bool(varying.all()):
        return scale.mean(), zero_point.mean()
    if not bool(varying.any()):
        return scale.new_ones(()), scale.new_zeros(())
    return scale[varying].mean(), zero_point[varying].mean()


def _top(pair: Pair) -> float:
    """The last code of the layer's input; infinity where it has no quantizer."""
    quantizer = getattr(pair.layer, "input_quantizer", None)
    return 2**quantizer.bits - 1 if isinstance(quantizer, Quantizer) else torch.inf


def _near_zero(pair: Pair, zero_point: Tensor) -> Tensor:
    """The step nearest zero that the common grid holds: 0 where zero is in its range."""
    return torch.zeros_like(zero_point).clamp(torch.ceil(-zero_point), torch.floor(_top(pair) - zero_point))

"""Make a model's channels after LayerNorm as uneven as a real vision transformer's, without changing what it computes.

Small models trained on small data have LayerNorms whose channels all reach about as far, while in real ones a few
channels reach much farther than the rest, which is what makes a grid for all of them coarse. A LayerNorm's output
x_c = gamma_c n_c + beta_c that feeds a linear layer sum_c W_oc x_c + b_o may be divided by any r_c > 0 a channel:

    gamma_c / r_c,  beta_c / r_c,  W_oc r_c

gives the same sums, up to rounding. It is what RepQ-ViT (arXiv 2212.08254) does the other way round.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitq.methods.architectures.roles import roles_of

FREEDOM = 2
SPREAD = 0.2
FARTHEST = 10.0
"""What log r is drawn from: SPREAD x Student's t of FREEDOM degrees, cut at the logarithm of FARTHEST.

The shape is that of ViT-Tiny (AugReg) on 32 photographs: in the LayerNorms of its blocks the logarithm of a channel's
range over the median channel's fits 0.10 x t with 2 degrees of freedom, cut at 11.5 x 0.10. The scale is twice that,
for which one 4-bit grid loses as much here as there (`grid_loss`: 10.2 dB there): few small images have no tokens as
far out as photographs have, and a few dozen channels fewer far ones than 192, which the channels have to make up for.
"""

_FEEDS = (("norm1", "attn.qkv"), ("norm2", "mlp.fc1"), ("norm", "reduction"), ("norm", "head"), ("norm", "head.fc"))
"""Names, inside one module of timm's ViT and Swin, of a LayerNorm and of the layer that it feeds."""


def pairs(model: nn.Module) -> Iterator[tuple[str, nn.LayerNorm, nn.Linear]]:
    """Every LayerNorm whose output goes to one linear layer and nowhere else, by its path, with that layer.

    The pooling between the last norm and the head leaves channels apart. Swin pads maps between norm and layer where a
    window does not divide them; zeros stay zeros, whatever r.
    """
    for path, module in model.named_modules():
        parts = dict(module.named_modules())
        for norm, layer in _FEEDS:
            first, second = parts.get(norm), parts.get(layer)
            if isinstance(first, nn.LayerNorm) and isinstance(second, nn.Linear):
                yield f"{path}.{norm}".lstrip("."), first, second


def part_pairs(part: nn.Module) -> list[tuple[nn.LayerNorm, nn.Linear]]:
    """As `pairs`, of a backbone that any architecture adapter knows; the layers are explicit and share its parameters.

    A detector's or segmenter's backbone has no head: its levels' norms feed what is outside.
    """
    memo: dict[int, Any] = {id(parameter): parameter for parameter in part.parameters()}
    known = roles_of(copy.deepcopy(part, memo))
    found = [(known.module(feed.norm), known.module(feed.layer)) for feed in known.norm_feeds]
    return [(n, layer) for n, layer in found if isinstance(n, nn.LayerNorm) and isinstance(layer, nn.Linear)]


@torch.no_grad()
def make_part_uneven(part: nn.Module, seed: int, spread: float) -> None:
    """As `make_uneven` with the logarithm of r `spread` times Student's t, in a backbone that an adapter knows."""
    drawn = np.random.RandomState(seed)
    for norm, layer in part_pairs(part):
        r = np.exp(spread * drawn.standard_t(FREEDOM, layer.in_features)).clip(1 / FARTHEST, FARTHEST)
        divide_channels(norm, layer, torch.from_numpy(r))


@torch.no_grad()
def make_uneven(model: nn.Module, seed: int) -> None:
    """Divide each channel after a LayerNorm by r and multiply the next layer's input channel by it.

    The logarithm of r is 0.2 times Student's t with 2 degrees of freedom, r cut at 0.1 and 10, drawn by the seed. The
    shape was fitted to the LayerNorms of a ViT-Tiny on photographs, the scale so that one 4-bit grid is as coarse.
    """
    drawn = np.random.RandomState(seed)  # the legacy generator: its streams are frozen
    for _, norm, layer in pairs(model):
        r = np.exp(SPREAD * drawn.standard_t(FREEDOM, layer.in_features)).clip(1 / FARTHEST, FARTHEST)
        divide_channels(norm, layer, torch.from_numpy(r))


@torch.no_grad()
def divide_channels(norm: nn.LayerNorm, layer: nn.Linear, r: Tensor) -> None:
    """Divide the norm's output channels by r [channels] and multiply the layer's inputs by it, rounded once."""
    for parameter in (norm.weight, norm.bias):
        parameter.copy_(parameter.double() / r)
    layer.weight.copy_(layer.weight.double() * r)


@dataclass(frozen=True)
class Unevenness:
    """Means over a model's LayerNorms that feed a layer, on some images.

    `widest`: the range (maximum - minimum, over all tokens) of the widest channel over that of the median channel.
    `grid_loss`: 10 log10(variance / mean squared error), in dB, of one 4-bit grid from the minimum to the maximum of
    all channels; low is coarse.
    """

    widest: float
    grid_loss: float


@torch.no_grad()
def unevenness(model: nn.Module, images: Tensor) -> Unevenness:
    """Of the outputs of `pairs`' LayerNorms on images [B, C, H, W]."""
    seen: list[Tensor] = []
    hooks = [norm.register_forward_hook(lambda _m, _i, output: seen.append(output)) for _, norm, _ in pairs(model)]
    model(images)
    for hook in hooks:
        hook.remove()
    ratios, losses = [_widest(each) for each in seen], [_grid_loss(each) for each in seen]
    return Unevenness(sum(ratios) / len(seen), sum(losses) / len(seen))


def _widest(output: Tensor) -> float:
    tokens = output.flatten(0, -2)
    spread = tokens.amax(0) - tokens.amin(0)
    return float(spread.max() / spread.median())


def _grid_loss(output: Tensor, levels: int = 15) -> float:
    step = (output.max() - output.min()) / levels
    error = ((output / step).round() * step - output).square().mean()
    return float(10 * torch.log10(output.var() / error))

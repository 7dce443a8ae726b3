"""Values on grids: what flows between the nodes of the trainable form, and the range that every node's output keeps.

Between modules flows `Scaled`: real values that lie on a grid, with its scale. Each node ends in an `Output`, the
dyadic requantization to its own observed range. Gradients are straight-through: those of the real function, past every
rounding and clamp.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.dyadic import dyadic, requantize
from vitq.methods.i_vit.operators_release import straight_through
from vitq.methods.i_vit.plan import Plan, Width
from vitq.methods.layers import Packed

MOMENTUM = 0.95
EPSILON = 2.0**-23
DYADIC_BITS = 32 + 8
"""A stored dyadic number: an int32 multiplier and an int8 shift."""


class Scaled(NamedTuple):
    """Real values on a grid and its scale: [] or, on the last dimension, [C]."""

    value: Tensor
    scale: Tensor

    def codes(self) -> Tensor:
        """The integers, rounded to int64."""
        return torch.round(self.value / self.scale).to(torch.int64)


def grid_scale(bound: Tensor, width: Width, paper: bool) -> Tensor:
    """Scale of a symmetric grid over [-bound, bound]: 2m/(2^k-1) in the paper, m/(2^(k-1)-1) in the released code."""
    if paper:
        return torch.div(2 * bound, 2**width.grid - 1).clamp_min(EPSILON)
    return release.symmetric_scale(bound, width.grid)


def quantize(x: Tensor, scale: Tensor, bits: int, paper: bool) -> Tensor:
    """Codes of real values, float32: clamp(round(x/S)) in the paper, clamp(round((1/S) x)) in the released code."""
    if not paper:
        return release.quantize(x, scale, bits)
    return torch.round(x / scale).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


class Output(nn.Module):
    """Running range of a node's output and the requantization to it.

    Minimum and maximum follow with momentum 0.95, the first batch initialises them (in the released code each batch
    does as long as the two are equal); they move in train mode and while `observing`, and are saved with the model
    (released code, QuantAct, which loses them).
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self, width: Width, plan: Plan, device: torch.device) -> None:
        super().__init__()
        self.width, self.plan, self.observing = width, plan, False
        self.paper = plan.paper("residual" if width.bits > 8 else "activations")
        self.register_buffer("low", torch.zeros((), device=device))
        self.register_buffer("high", torch.zeros((), device=device))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool, device=device))

    @torch.no_grad()
    def observe(self, value: Tensor) -> None:
        """Move the range towards that of `value`."""
        low, high = torch.aminmax(value.detach())
        begun = self.seen if self.paper else self.seen & (self.low != self.high)
        self.low.copy_(torch.where(begun, self.low * MOMENTUM + low * (1 - MOMENTUM), low))
        self.high.copy_(torch.where(begun, self.high * MOMENTUM + high * (1 - MOMENTUM), high))
        self.seen.fill_(True)

    @property
    def scale(self) -> Tensor:
        """The scale of the grid over the range as it is now; a fresh tensor."""
        return grid_scale(torch.maximum(-self.low, self.high), self.width, self.paper)

    def watch(self, value: Tensor) -> None:
        """Observe in train mode or while calibrating."""
        if self.training or self.observing:
            self.observe(value)

    @torch.no_grad()
    def requantize(self, x: Scaled) -> Tensor:
        """Codes of x on this grid, float32; the two arithmetics differ in rounding and in the product's exactness."""
        scale = self.scale
        if self.paper:
            number = dyadic(x.scale.double() / scale.double())
            return requantize(x.codes(), number, self.width.bits, self.plan.rounding).float()
        return release.requantize(x.value / x.scale, x.scale, scale, self.width.bits)

    def forward(self, x: Scaled) -> Scaled:
        """Observe and requantize."""
        self.watch(x.value)
        scale = self.scale
        return Scaled(straight_through(self.requantize(x) * scale, x.value), scale)


class Node(nn.Module):
    """Base: notes the scales of its inputs, from which the integer form takes its constants."""

    def __init__(self) -> None:
        super().__init__()
        self.in_scales: tuple[Tensor, ...] = ()

    def note(self, *inputs: Scaled) -> None:
        """Remember the scales of this call."""
        self.in_scales = tuple(x.scale.detach() for x in inputs)


def dyadics(output: Output | None, channels: int = 1) -> list[Packed]:
    """What a requantization stores: a dyadic number a channel, none without an output."""
    return [] if output is None else [Packed("requantization", channels, DYADIC_BITS)]

"""Values on grids, and how they get from one grid to another: the range that a node's output keeps, and its integers.

Between the nodes of the trainable form flows `Scaled`: real values that lie on a grid, with its scale. A node ends in
an `Output`, the dyadic requantization to its own observed range; `Requantize` is the same in integers. Gradients are
straight-through: those of the real function, past every rounding and clamp.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.dyadic import Dyadic, dyadic, requantize
from vitq.methods.i_vit.forms import Forms, Width
from vitq.methods.i_vit.names import Rounding
from vitq.methods.i_vit.operators_release import straight_through

MOMENTUM = 0.95
EPSILON = 2.0**-23


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

    def __init__(self, width: Width, forms: Forms, device: torch.device) -> None:
        super().__init__()
        self.width, self.forms, self.observing = width, forms, False
        self.paper = forms.paper("residual" if width.bits > 8 else "activations")
        self.register_buffer("low", torch.zeros((), device=device))
        self.register_buffer("high", torch.zeros((), device=device))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool, device=device))
        self.fitted = False  # as `seen`, and read without waiting for a device

    @torch.no_grad()
    def observe(self, value: Tensor) -> None:
        """Move the range towards that of `value`."""
        low, high = torch.aminmax(value.detach())
        begun = self.seen if self.paper else self.seen & (self.low != self.high)
        self.low.copy_(torch.where(begun, self.low * MOMENTUM + low * (1 - MOMENTUM), low))
        self.high.copy_(torch.where(begun, self.high * MOMENTUM + high * (1 - MOMENTUM), high))
        self.seen.fill_(True)
        self.fitted = True

    def _load_from_state_dict(self, *arguments: Any, **more: Any) -> None:
        super()._load_from_state_dict(*arguments, **more)
        self.fitted = bool(self.seen)

    @property
    def scale(self) -> Tensor:
        """The scale of the grid over the range as it is now; a fresh tensor."""
        return grid_scale(self.bound, self.width, self.paper)

    def watch(self, value: Tensor) -> None:
        """Observe in train mode or while calibrating; else MethodInputError for a range that was never observed."""
        if self.training or self.observing:
            self.observe(value)
        elif not self.fitted:
            raise MethodInputError("an activation has no range yet: calibrate the model, or fill it from a saved one")

    @torch.no_grad()
    def requantize(self, x: Scaled) -> Tensor:
        """Codes of x on this grid, float32; the two arithmetics differ in rounding and in the product's exactness."""
        scale = self.scale
        if self.paper:
            number = dyadic(x.scale.double() / scale.double())
            return requantize(x.codes(), number, self.width.bits, self.forms.rounding).float()
        return release.requantize(x.value / x.scale, x.scale, scale, self.width.bits)

    def forward(self, x: Scaled) -> Scaled:
        """Observe and requantize."""
        self.watch(x.value)
        scale = self.scale
        return Scaled(straight_through(self.requantize(x) * scale, x.value), scale)

    @property
    def bound(self) -> Tensor:
        """The largest magnitude of the range, which alone decides the grid."""
        return torch.maximum(-self.low, self.high)

    def take(self, bound: Tensor) -> None:
        """Set the range to [-bound, bound], as a saved model holds it."""
        if bound.shape != self.low.shape:
            raise ValueError(f"a range is one number, not {list(bound.shape)}")
        self.low.copy_(-bound)
        self.high.copy_(bound)
        self.seen.fill_(True)
        self.fitted = True


def narrow(codes: Tensor, bits: int) -> Tensor:
    """The smallest of int8, int16 and int32 that holds signed codes of this width."""
    return codes.to(torch.int8 if bits <= 8 else torch.int16 if bits <= 16 else torch.int32)


class Requantize(nn.Module):
    """A dyadic number, or one a channel, and the width of its output."""

    multiplier: Tensor
    shift: Tensor

    def __init__(self, ratio: Tensor, bits: int, rounding: Rounding) -> None:
        super().__init__()
        number = dyadic(ratio)
        self.register_buffer("multiplier", number.multiplier)
        self.register_buffer("shift", number.shift)
        self.bits, self.rounding = bits, rounding

    def wide(self, codes: Tensor) -> Tensor:
        """int64 codes, clamped to the width."""
        return requantize(codes, Dyadic(self.multiplier, self.shift), self.bits, self.rounding)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes on the new grid in the smallest type that holds them."""
        return narrow(self.wide(codes), self.bits)


def after(output: Output | None, scale: Tensor) -> Requantize | None:
    """The requantization of codes of this scale to an output's grid; None where accumulators flow on."""
    if output is None:
        return None
    return Requantize(scale.double() / output.scale.double(), output.width.bits, output.forms.rounding)

"""Values on grids: what flows between the nodes of the trainable form, and the range that every node's output keeps.

Between modules flows `Scaled`: real values that lie on a grid, with its scale. Each node ends in an `Output`, the
dyadic requantization to its own observed range. Gradients are straight-through: those of the real function, past every
rounding and clamp.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.dyadic import dyadic, requantize
from vitq.methods.i_vit.operators_release import straight_through
from vitq.methods.i_vit.plan import Plan, Width
from vitq.methods.toolkit.layers import Codes, Packed, State

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

    def __init__(self, width: Width, plan: Plan, device: torch.device) -> None:
        super().__init__()
        self.width, self.plan, self.observing = width, plan, False
        self.paper = plan.paper("residual" if width.bits > 8 else "activations")
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
            return requantize(x.codes(), number, self.width.bits, self.plan.rounding).float()
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


class Node(nn.Module):
    """Base: what a node of the trainable form stores, and the scales of its inputs, which its integer form is made of.

    In the released arithmetic a node is stored as it computes: weight codes with their scales, the ranges, and float32
    for the rest. In the paper's it is the integer form that ships, and `shipped` says what that will be.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.in_scales: tuple[Tensor, ...] = ()

    def note(self, *inputs: Scaled) -> None:
        """Remember the scales of this call."""
        self.in_scales = tuple(x.scale.detach() for x in inputs)

    def shipped(self) -> list[Packed]:
        """What the integer form stores."""
        return []

    def kept(self) -> State:
        """What is stored beside the ranges in the released arithmetic."""
        return {}

    def take(self, state: dict[str, Tensor]) -> None:
        """Take back what `kept` gave."""

    def _ranges(self) -> dict[str, Output]:
        return {name: child for name, child in self.named_children() if isinstance(child, Output)}

    def stored_state(self) -> State:
        """The node as it computes; MethodInputError where a range was never observed."""
        for name, output in self._ranges().items():
            if not output.fitted:
                raise MethodInputError(f"the range {name!r} was never observed: calibrate the model before saving it")
        return self._state()

    def _state(self) -> State:
        return {**self.kept(), **{f"{name}.bound": output.bound for name, output in self._ranges().items()}}

    @torch.no_grad()
    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `stored_state` gave; KeyError or ValueError where it belongs to another node."""
        for name, output in self._ranges().items():
            output.take(state[f"{name}.bound"])
        self.take(state)

    def packed_tensors(self) -> list[Packed]:
        """What ships: of the integer form in the paper's arithmetic, else what is stored."""
        return self.shipped() if self.plan.arithmetic == "paper" else packed_rows(self._state())


def packed_rows(state: State) -> list[Packed]:
    """Elements and bits of what is stored."""
    rows = []
    for name, held in state.items():
        tensor, bits = (held.codes, held.bits) if isinstance(held, Codes) else (held, held.element_size() * 8)
        rows.append(Packed(name, tensor.numel(), bits))
    return rows


def fill(parameter: Tensor, given: Tensor) -> None:
    """Copy a stored tensor over a parameter or buffer; ValueError where the shapes differ."""
    if parameter.shape != given.shape:
        raise ValueError(f"a tensor of shape {list(given.shape)} where {list(parameter.shape)} is wanted")
    parameter.copy_(given)


def dyadics(output: Output | None, channels: int = 1) -> list[Packed]:
    """What a requantization stores: a dyadic number a channel, none without an output."""
    if output is None:
        return []
    return [Packed("multiplier", channels, 32), Packed("shift", channels, 8)]

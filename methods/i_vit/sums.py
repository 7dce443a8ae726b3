"""Sums on one grid: of a residual branch, and of an activation with what was learnt, positions or a relative bias.

I_y = clamp(DN(S_l / S) * I_l + DN(S_r / S) * I_r)   with dyadic numbers DN (paper, Section 3.2)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.dyadic import dyadic, requantize
from vitq.methods.i_vit.forms import Forms, Width
from vitq.methods.i_vit.grids import Output, Requantize, Scaled, narrow
from vitq.methods.i_vit.nodes import IntegerNode, Node, dyadics, fill
from vitq.methods.i_vit.operators_release import straight_through
from vitq.methods.toolkit.stored import Codes, Packed, State


class Add(Node):
    """The sum of two activations, both rescaled to the grid of the sum; the left one may have `channels` scales."""

    def __init__(self, width: Width, channels: int, forms: Forms, device: torch.device) -> None:
        super().__init__(forms)
        self.channels = channels
        self.out = Output(width, forms, device)

    def forward(self, left: Scaled, right: Scaled) -> Scaled:
        """Broadcasting sum."""
        self.note(left, right)
        total = left.value + right.value
        self.out.watch(total)
        scale = self.out.scale
        with torch.no_grad():
            if self.out.paper:
                codes = sum_codes(left, right, self.out).float()
            else:
                parts = [(x.value / x.scale, x.scale) for x in (left, right)]
                codes = release.residual_sum(parts[0], parts[1], scale, self.out.width.bits)
        return Scaled(straight_through(codes * scale, total), scale)

    def integer(self) -> IntegerAdd:
        """Its integer form."""
        return IntegerAdd(self)

    def shipped(self) -> list[Packed]:
        """A dyadic number an operand, of accumulators one a channel."""
        return dyadics(self.out, self.channels + 1)


def sum_codes(left: Scaled, right: Scaled, out: Output) -> Tensor:
    """clamp(DN(S_l/S)*l + DN(S_r/S)*r), each operand first held to the sum's headroom, so that nothing overflows."""
    return clamped(_rescaled(left, out) + _rescaled(right, out), out.width.bits)


def _rescaled(x: Scaled, out: Output) -> Tensor:
    number = dyadic(x.scale.double() / out.scale.double())
    return requantize(x.codes(), number, out.width.operand_bits, out.forms.rounding)


def clamped(total: Tensor, bits: int) -> Tensor:
    """Held to signed codes of this width."""
    return total.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _operand(scale: Tensor, out: Output) -> Requantize:
    return Requantize(scale.double() / out.scale.double(), out.width.operand_bits, out.forms.rounding)


class IntegerAdd(IntegerNode):
    """Sum of two integers on grids of their own."""

    def __init__(self, node: Add) -> None:
        super().__init__()
        self.bits = node.out.width.bits
        self.left, self.right = (_operand(scale, node.out) for scale in node.in_scales)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Broadcasting sum."""
        return narrow(clamped(self.left.wide(left) + self.right.wide(right), self.bits), self.bits)


class AddConstant(Node):
    """An activation plus a learnt constant: position embedding, relative-position bias.

    The released code quantizes the constant to a range of its own, then both to the sum's; the paper's arithmetic
    quantizes it to the sum's grid at once. `arrange` brings the learnt values, or their codes, into the shape that is
    added, which may depend on the height and width of the feature map.
    """

    def __init__(self, value: nn.Parameter, arrange: nn.Module, width: Width, forms: Forms) -> None:
        super().__init__(forms)
        self.value, self.arrange = value, arrange
        device = value.device
        self.out = Output(width, forms, device)
        self.own = None if self.out.paper else Output(width, forms, device)

    def forward(self, x: Scaled, *at: int) -> Scaled:
        """Broadcasting sum."""
        self.note(x)
        constant = self.arrange(self.value, *at)
        if self.own is not None:
            return self._release(x, self.own, constant, at)
        self.out.watch(x.value + constant)
        fixed = self.arrange(self.constant_codes(self.value), *at)
        codes = clamped(_rescaled(x, self.out) + fixed, self.out.width.bits).float()
        return Scaled(straight_through(codes * self.out.scale, x.value + constant), self.out.scale)

    def _release(self, x: Scaled, own: Output, constant: Tensor, at: tuple[int, ...]) -> Scaled:
        own.watch(constant)
        codes = release.quantize(self.value, own.scale, own.width.bits)
        fixed = self.arrange(codes.to(torch.int32), *at).to(codes.dtype)
        total = x.value + straight_through(fixed * own.scale, constant)
        self.out.watch(total)  # the range of the sum is taken after the constant is quantized
        scale = self.out.scale
        codes = release.residual_sum((x.value / x.scale, x.scale), (fixed, own.scale), scale, self.out.width.bits)
        return Scaled(straight_through(codes * scale, total), scale)

    def constant_codes(self, constant: Tensor) -> Tensor:
        """Integers of the constant on the sum's grid, int64."""
        limit = 2 ** (self.out.width.bits - 1)
        return torch.round(constant.detach() / self.out.scale).clamp(-limit, limit - 1).to(torch.int64)

    def kept(self) -> State:
        """Codes of the learnt values on their own grid; the values themselves where they have none."""
        if self.own is None:
            return {"value": self.value.detach()}
        bits = self.own.width.bits
        codes = release.quantize(self.value.detach(), self.own.scale, bits)
        return {"value": Codes(codes.to(torch.int32), bits, signed=True)}

    def take(self, state: dict[str, Tensor]) -> None:
        """The values become those of their codes."""
        given = state["value"].to(self.value.device)
        fill(self.value, given if self.own is None else given * self.own.scale)

    def integer(self) -> IntegerAddConstant:
        """Its integer form."""
        return IntegerAddConstant(self)

    def shipped(self) -> list[Packed]:
        """The learnt values at 8, 16 or 32 bits, and a dyadic number."""
        bits = self.out.width.bits
        return [Packed("codes", self.value.numel(), 32 if bits > 16 else bits), *dyadics(self.out)]


class IntegerAddConstant(IntegerNode):
    """An integer plus a learnt constant on the sum's grid."""

    codes: Tensor

    def __init__(self, node: AddConstant) -> None:
        super().__init__()
        self.bits = node.out.width.bits
        self.left = _operand(node.in_scales[0], node.out)
        self.arrange = node.arrange
        self.register_buffer("codes", narrow(node.constant_codes(node.value), self.bits))

    def forward(self, codes: Tensor, *at: int) -> Tensor:
        """Broadcasting sum."""
        return narrow(clamped(self.left.wide(codes) + self.arrange(self.codes, *at), self.bits), self.bits)

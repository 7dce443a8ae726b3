"""Integer codes between grids: what every integer form is made of, all of it buffers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitq.methods.i_vit.dyadic import Dyadic, Rounding, dyadic, requantize
from vitq.methods.i_vit.grids import Node, Output
from vitq.methods.layers import Packed


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
    return Requantize(scale.double() / output.scale.double(), output.width.bits, output.plan.rounding)


class _Leaf(nn.Module):
    """An integer node; it ships what its trainable form says."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._packed: list[Packed] = node.packed_tensors()  # type: ignore[operator]

    def packed_tensors(self) -> list[Packed]:
        """As the trainable form."""
        return self._packed

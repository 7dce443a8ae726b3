"""Integer codes between grids: what every integer form is made of, all of it buffers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.i_vit.dyadic import Dyadic, Rounding, dyadic, requantize
from vitq.methods.i_vit.grids import Output, fill, packed_rows
from vitq.methods.toolkit.layers import Codes, Packed, State


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


def _refuse_empty(node: nn.Module, _: object) -> None:
    if node.empty:
        raise MethodInputError("an integer node waits for its numbers: fill the model from a saved one first")


class IntegerNode(nn.Module):
    """An integer node: all that decides its output lies in its buffers, which are what it stores and ships.

    `empty` while it waits for `restore_state`, until when it refuses to compute.
    """

    empty = False

    def wait(self) -> None:
        """Compute nothing before `restore_state`."""
        self.empty = True
        self.register_forward_pre_hook(_refuse_empty)

    def stored_state(self) -> State:
        """Every buffer at its own width: INT8 weights as codes, a shift in 8 bits."""
        state: State = {}
        for name, buffer in self.state_dict().items():
            if name == "weight":
                state[name] = Codes(buffer, 8, signed=True)
            else:
                state[name] = buffer.to(torch.int8) if name.split(".")[-1] == "shift" else buffer
        return state

    @torch.no_grad()
    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take every buffer back; KeyError or ValueError where they belong to another node."""
        for name, buffer in self.state_dict().items():
            fill(buffer, state[name])
        self.empty = False

    def packed_tensors(self) -> list[Packed]:
        """What is stored."""
        return packed_rows(self.stored_state())

"""Nodes: what every operator of the network is in its trainable form and in its integer form, and what each stores.

A trainable node notes the scales that it is given; `integer()` makes its integer form of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Output, Scaled
from vitq.methods.toolkit.stored import Codes, Packed, State


class Node(nn.Module):
    """Base: what a node of the trainable form stores, and the scales of its inputs, which its integer form is made of.

    In the released arithmetic a node is stored as it computes: weight codes with their scales, the ranges, and float32
    for the rest. In the paper's it is the integer form that ships, and `shipped` says what that will be.
    """

    def __init__(self, forms: Forms) -> None:
        super().__init__()
        self.forms = forms
        self.in_scales: tuple[Tensor, ...] = ()

    def note(self, *inputs: Scaled) -> None:
        """Remember the scales of this call."""
        self.in_scales = tuple(x.scale.detach() for x in inputs)

    def integer(self) -> IntegerNode:
        """The integer form, from the scales that were noted; UnsupportedError for a step of the released code alone."""
        raise UnsupportedError(f"{type(self).__name__} is a step of the release arithmetic, which has no integer form")

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
        return self.shipped() if self.forms.arithmetic == "paper" else packed_rows(self._state())


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

"""What a module of a quantized model says of itself: the widths it multiplies at, what of it ships, what it stores.

Accounting reads two things from any module: `operand_bits()`, the widths of the two operands of its products, and
`packed_tensors()`, what of it ships at which width. A saved model is made of `stored_state()`. Quantized, integer and
binary layers of every method offer them; which do is asked by the protocols below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, cast, runtime_checkable

from torch import Tensor, nn

__all__ = [
    "Codes", "HasOperands", "HasPacked", "HasState", "Packed", "State", "child_state", "children_state",
    "restore_child", "restore_children",
]  # fmt: skip


class Packed(NamedTuple):
    """A stored tensor: its name in the module, number of elements and bits an element."""

    name: str
    numel: int
    bits: int


@runtime_checkable
class HasOperands(Protocol):
    """A module that multiplies: the widths of (left or input, right or weight) in bits; 32 is floating point."""

    def operand_bits(self) -> tuple[float, float]:
        """Widths in bits; a fraction where one tensor mixes widths (the mean over its elements)."""


@runtime_checkable
class HasPacked(Protocol):
    """A module that says how all of it, children included, is stored."""

    def packed_tensors(self) -> list[Packed]:
        """Stored tensors."""


class Codes(NamedTuple):
    """Integer codes of a stored tensor, any shape, each within `bits` bits: two's complement where `signed`."""

    codes: Tensor
    bits: int
    signed: bool = False


State = dict[str, "Tensor | Codes"]
"""What a module stores, by a name of its own: codes, packed at their width, and tensors kept as they are."""


@runtime_checkable
class HasState(Protocol):
    """A module that says what of it, children included, is stored, and can be made again from that alone.

    Other modules store their parameters and persistent buffers as they are.
    """

    def stored_state(self) -> Mapping[str, Tensor | Codes]:
        """What is stored: enough to compute the same outputs, bit for bit, without the floating-point weights."""

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `stored_state` gave, codes as int32; the module computes as the saved one did."""


def child_state(name: str, module: HasState | None) -> State:
    """What a child stores, each name with the child's before it; nothing where there is no child."""
    return {} if module is None else {f"{name}.{key}": value for key, value in module.stored_state().items()}


def restore_child(name: str, module: HasState | None, state: dict[str, Tensor]) -> None:
    """Give a child what `child_state` took from it."""
    if module is not None:
        start = f"{name}."
        module.restore_state({key[len(start) :]: value for key, value in state.items() if key.startswith(start)})


def children_state(module: nn.Module) -> State:
    """What all children store, each name with its child's before it; every child holds a state of its own."""
    state: State = {}
    for name, child in module.named_children():
        state |= child_state(name, cast(HasState, child))
    return state


def restore_children(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Give every child what `children_state` took from it."""
    for name, child in module.named_children():
        restore_child(name, cast(HasState, child), state)

"""What a quantized model weighs when it ships: every stored tensor at its own width, whole bytes a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

from vitq.methods.toolkit.stored import HasPacked


class Stored(NamedTuple):
    """A stored tensor: path of the module that holds it, its name there, elements and bits an element."""

    path: str
    name: str
    numel: int
    bits: float

    @property
    def bytes(self) -> int:
        """ceil(numel * bits / 8): codes are packed without gaps, and each tensor starts at a whole byte."""
        return -int(-(self.numel * self.bits) // 8)


def parameter_count(model: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def stored_tensors(model: nn.Module) -> list[Stored]:
    """Every tensor that ships, each once.

    A module with `packed_tensors()` speaks for its whole subtree. Elsewhere parameters and persistent buffers count
    as they are held; buffers outside the state dict (relative position indices, attention masks) are recomputed from
    the architecture and ship nothing.
    """
    return list(_walk(model, "", set()))


def _walk(module: nn.Module, path: str, seen: set[int]) -> Iterator[Stored]:
    if id(module) in seen:
        return
    seen.add(id(module))
    if isinstance(module, HasPacked):
        yield from (Stored(path, *packed) for packed in module.packed_tensors())
        return
    for name, tensor in _held(module):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield Stored(path, name, tensor.numel(), tensor.element_size() * 8)
    for name, child in module.named_children():
        yield from _walk(child, f"{path}.{name}" if path else name, seen)


def _held(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False)
    for name, buffer in module.named_buffers(recurse=False):
        if name not in module._non_persistent_buffers_set:
            yield name, buffer

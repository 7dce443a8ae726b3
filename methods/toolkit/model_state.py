"""The state of a model, module by module: what is stored of it, and how it comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.toolkit.saved_file import Entry
from vitq.methods.toolkit.stored import Codes, HasPacked, HasState


def stored(model: nn.Module) -> Iterator[tuple[str, str, Tensor | Codes]]:
    """(path of the module, name, what is stored) in the order of the model, each tensor once."""
    for path, module in holders(model):
        try:
            state = state_of(module)
        except MethodInputError as error:
            raise MethodInputError(f"{path or 'the model'} cannot be saved: {error}") from error
        yield from ((path, name, value) for name, value in state.items())


def holders(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module that holds something of its own, by path; one with `stored_state` speaks for its whole subtree."""
    return list(_walk(model, "", set()))


def _walk(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    if isinstance(module, HasState):
        yield path, module
        return
    if isinstance(module, HasPacked):
        raise MethodInputError(
            f"{type(module).__name__} at {path!r} says how it ships and not what it stores: save the finished model"
        )
    shared = [name for name, tensor in _own(module).items() if id(tensor) in seen]
    seen.update(id(tensor) for tensor in _own(module).values() if tensor is not None)
    yield path, module if not shared else _Part(module, shared)
    for name, child in module.named_children():
        yield from _walk(child, f"{path}.{name}" if path else name, seen)


class _Part(nn.Module):
    """A module without the tensors that another one holds too."""

    def __init__(self, module: nn.Module, shared: list[str]) -> None:
        super().__init__()
        self._parameters = {n: p for n, p in module._parameters.items() if n not in shared}
        self._buffers = {n: b for n, b in module._buffers.items() if n not in shared}
        self._non_persistent_buffers_set = module._non_persistent_buffers_set


def _own(module: nn.Module) -> dict[str, Tensor | None]:
    """Parameters and persistent buffers of a module itself, None where one is registered and absent."""
    kept = {n: b for n, b in module._buffers.items() if n not in module._non_persistent_buffers_set}
    return {**module._parameters, **kept}


def state_of(module: nn.Module) -> Mapping[str, Tensor | Codes]:
    """What a holder stores."""
    if isinstance(module, HasState):
        return module.stored_state()
    return {name: tensor for name, tensor in _own(module).items() if tensor is not None}


def restore(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a holder what `state_of` took from it; KeyError, ValueError where it is another module's."""
    if isinstance(module, HasState):
        module.restore_state(state)
        return
    for name, held in _own(module).items():
        if held is None:
            _appear(module, name, state.get(name))
        elif name not in state:
            raise KeyError(name)
        elif state[name].dtype != held.dtype or state[name].shape != held.shape:
            raise ValueError(f"{name} is {Entry.of('', name, state[name]).words()} in the file, "
                             f"{Entry.of('', name, held).words()} in this model")  # fmt: skip
        else:
            held.copy_(state[name])


def _appear(module: nn.Module, name: str, tensor: Tensor | None) -> None:
    """Fill a buffer that was registered empty: a value that only some models have, as padding of Swin's windows."""
    if tensor is not None and name in module._buffers:
        around = next(module.parameters(), tensor)
        setattr(module, name, tensor.to(around.device))

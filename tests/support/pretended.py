"""A GPU that is pretended: tensors on the CPU that are taken for a GPU's, and mixtures of the two refused as CUDA does.

`with pretended_gpu():` every tensor that is moved to or made on `cuda` is computed on the CPU and remembered as the
GPU's, by its storage. Its `device` says `cuda:0`. An operator that is given tensors of both places raises
`WrongDeviceError`, but for what CUDA allows: a CPU tensor without dimensions, indices on the CPU, copies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
MIXES = (
    "copy_",
    "_to_copy",
    "index",
    "index_put_",
    "index_put",
    "_index_put_impl_",
    "_copy_from",
    "set_",
    "lift_fresh",
)
"""Operators that CUDA gives tensors of both places: copies, and indices that may be on the CPU."""
TO_NUMPY = ("numpy", "__array__", "__dlpack__")
CALLS = ("set_device", "synchronize", "reset_peak_memory_stats", "init", "max_memory_allocated")
"""Of `torch.cuda`, what methods and worker ask of a GPU."""


class WrongDeviceError(RuntimeError):
    """Tensors of two places met in one operator, or one on the GPU was taken for one in memory."""


class _Places:
    """Which storages are the GPU's; a storage that is gone is forgotten, for its number is given again."""

    def __init__(self) -> None:
        self._gpu: dict[int, StorageWeakRef] = {}

    def of(self, tensor: Tensor) -> torch.device:
        """Where a tensor is taken to be."""
        if tensor.is_sparse or torch.ops.prim.device.default(tensor).type != "cpu":
            return CPU if tensor.is_sparse else torch.ops.prim.device.default(tensor)
        found = self._gpu.get(tensor.untyped_storage()._cdata)
        return GPU if found is not None and not found.expired() else CPU

    def put(self, value: Any, place: torch.device) -> Any:
        """Remember where every tensor in a value is; the value."""
        for tensor in tree_leaves(value):
            if isinstance(tensor, Tensor) and not tensor.is_sparse:
                key = tensor.untyped_storage()._cdata
                if place.type == "cuda":
                    self._gpu[key] = StorageWeakRef(tensor.untyped_storage())
                else:
                    self._gpu.pop(key, None)
        return value


PLACES = _Places()
"""Of this process: what a cache keeps from one pretended GPU is still the GPU's in the next."""


def _tensors(*values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class _Operators(TorchDispatchMode):
    """Refuses mixtures, and remembers where results are."""

    def __init__(self, places: _Places) -> None:
        super().__init__()
        self.places = places
        self.within = CPU
        """Where the call of torch that is under way computes: a factory inside it makes its tensors there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, given = func._schema.name.split("::")[-1], _tensors(args, kwargs)
        place = self.place_of(name, given)
        if place == GPU and any(isinstance(leaf, torch.Generator) for leaf in tree_leaves((args, kwargs))):
            raise WrongDeviceError(f"{name}: a generator of the CPU draws for a tensor of the GPU")
        out = func(*args, **kwargs)
        known = {tensor.untyped_storage()._cdata for tensor in given if not tensor.is_sparse}
        new = [t for t in _tensors(out) if not t.is_sparse and t.untyped_storage()._cdata not in known]
        self.places.put(new, place)
        return out

    def place_of(self, name: str, given: list[Tensor]) -> torch.device:
        """Where an operator on these tensors computes; WrongDeviceError for a mixture that CUDA refuses."""
        places = [self.places.of(tensor) for tensor in given]
        if not places:
            return self.within
        if GPU not in places:
            return CPU
        wrong = [t for t, place in zip(given, places, strict=True) if place == CPU and t.dim()]
        if name.startswith(("index", "_index")) and places[0] == CPU:
            raise WrongDeviceError(f"{name}: a tensor of the CPU is indexed by one of the GPU")
        if name in MIXES:
            return places[0]
        if wrong:
            raise WrongDeviceError(f"{name}: a tensor {list(wrong[0].shape)} of the CPU beside tensors of the GPU")
        return GPU


class _Functions(TorchFunctionMode):
    """Answers what is asked of devices, and turns a move to the GPU into a copy that is remembered."""

    def __init__(self, places: _Places, operators: _Operators) -> None:
        super().__init__()
        self.places, self.operators = places, operators

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        owner = getattr(getattr(func, "__self__", None), "__name__", "")
        if name == "__get__" and owner in ("device", "is_cuda"):
            place = self.places.of(args[0])
            return place if owner == "device" else place.type == "cuda"
        if name in TO_NUMPY and self.places.of(args[0]) == GPU:
            raise WrongDeviceError(f"{name} of a tensor of the GPU: copy it to the CPU first")
        if name in ("to", "cuda", "cpu") and isinstance(args[0], Tensor):
            return self._moved(func, name, args, kwargs)
        if name in ("__deepcopy__", "new_tensor"):  # what makes a tensor without an operator
            return self.places.put(func(*args, **kwargs), self.places.of(args[0]))
        asked = kwargs.get("device")
        if asked is not None and torch.device(asked).type != "meta":
            kwargs["device"] = CPU
            return self._within(torch.device(asked), func, args, kwargs)
        return self._within(None, func, args, kwargs)

    def _within(self, asked: torch.device | None, func: Any, args: Any, kwargs: Any) -> Any:
        """Call it, what it makes being where it is asked to be, or where its tensors are."""
        before, given = self.operators.within, _tensors(args, kwargs)
        if asked is not None:
            self.operators.within = _numbered(asked)
        elif any(self.places.of(tensor) == GPU for tensor in given):
            self.operators.within = GPU
        if asked == GPU and isinstance(kwargs.get("generator"), torch.Generator):
            raise WrongDeviceError("a generator of the CPU draws for a tensor of the GPU")
        try:
            out = func(*args, **kwargs)
        finally:
            self.operators.within = before
        return self.places.put(out, _numbered(asked)) if asked is not None else out

    def _moved(self, func: Any, name: str, args: Any, kwargs: Any) -> Tensor:
        """A tensor where it is wanted: itself if it is there, else a copy."""
        source, to = self.places.of(args[0]), _wanted(name, args[1:], kwargs, self.places)
        if "meta" in (source.type, to.type if to else ""):
            return func(*args, **kwargs)  # type: ignore[no-any-return]
        args = tuple(CPU if _is_place(arg) else arg for arg in args)
        kwargs = {key: CPU if key == "device" else value for key, value in kwargs.items()}
        moved: Tensor = args[0].clone() if name in ("cuda", "cpu") else func(*args, **kwargs)
        if to is None or to == source:
            return args[0] if name in ("cuda", "cpu") else self._same(args[0], moved, source)
        moved = moved.clone() if moved.untyped_storage()._cdata == args[0].untyped_storage()._cdata else moved
        self.places.put(moved, to)
        return moved

    def _same(self, given: Tensor, moved: Tensor, place: torch.device) -> Tensor:
        shared = moved.untyped_storage()._cdata == given.untyped_storage()._cdata
        return moved if shared else self.places.put(moved, place)


def _numbered(place: torch.device) -> torch.device:
    return GPU if place.type == "cuda" else place


def _is_place(arg: Any) -> bool:
    return isinstance(arg, torch.device) or (isinstance(arg, str) and arg.startswith(("cuda", "cpu")))


def _wanted(name: str, args: Iterable[Any], kwargs: dict[str, Any], places: _Places) -> torch.device | None:
    """Where `to`, `cuda` or `cpu` carries a tensor; None where it changes the type alone."""
    if name in ("cuda", "cpu"):
        return GPU if name == "cuda" else CPU
    for arg in (*args, kwargs.get("device"), kwargs.get("other")):
        if _is_place(arg):
            return _numbered(torch.device(arg))
        if isinstance(arg, Tensor):
            return places.of(arg)
    return None


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within, `cuda` is a GPU that is pretended; see above."""
    for name in CALLS:
        monkeypatch.setattr(torch.cuda, name, lambda *_: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
    operators = _Operators(PLACES)
    with operators, _Functions(PLACES, operators):
        yield

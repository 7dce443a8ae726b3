"""Tensors by name from weights files: what a file is, is told by its first bytes, and no pickle's code is ever run."""

from __future__ import annotations

import pickletools
import re
import warnings
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from vitq.errors import BadInputError
from vitq.tasks.file_kinds import Kind, kind_of

State = dict[str, Tensor]
PLAIN = ("model", "state_dict", "model_state_dict", "model_state")
AVERAGED = ("model_ema", "state_dict_ema", "ema_state_dict", "ema")
"""Moving averages of the weights, which training scripts keep beside them."""
_WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and training frameworks put before every name."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_FILLED = re.compile(r"but got <class '[\w.]+\.(\w+)'>")
"""What torch says of an object that a pickle goes on to fill as it fills a list or a dictionary."""
_PICKLES = 4
"""A file of an older torch begins with a magic number, a version and a system, each pickled, before its content."""


class WeightsWarning(UserWarning):
    """Something about a weights file that a record should show."""


def read(path: Path) -> State:
    """Tensors by name from a .safetensors file or a PyTorch checkpoint, wherever it keeps them.

    Raises BadInputError for what is no such file, is damaged, or holds other things than tensors by name; warns
    (WeightsWarning) of a moving average that is used, or left unused.
    """
    kind = kind_of(path)
    try:
        content = load_file(path) if kind == "safetensors" else _load_pickled(path, kind)
    except Exception as error:  # damaged bytes raise whatever the readers stumble over
        raise BadInputError(_unreadable(path, kind, error)) from None
    state = _unwrapped(content, path)
    for name, tensor in state.items():
        _check(name, tensor, path)
    return _without_wrapper(state)


class Inert:
    """What stands in a checkpoint for an object that is no tensor: it takes what the pickle says and does nothing.

    mmengine's checkpoints hold histories of losses, schedulers and numpy's numbers beside their weights; what stands
    here for their classes and functions is found by name alone, so that nothing of a file is imported or executed.
    """

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _load_pickled(path: Path, kind: Kind) -> Any:
    """A checkpoint's content by torch's own restricted reader; every name that it does not know is an `Inert`."""
    with path.open("rb") as file:  # by its name alone torch would take a file for safetensors
        others = get_unsafe_globals_in_checkpoint(file) if kind == "zip" else _names_in_pickles(file)
        file.seek(0)
        with safe_globals([(_inert(name), name) for name in others]):
            return torch.load(file, map_location="cpu", weights_only=True)


def _names_in_pickles(file: BinaryIO) -> set[str]:
    """The classes and functions that a file of one pickle after the other names, told by its opcodes; none is run."""
    found = set()
    for _ in range(_PICKLES):
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
                found.add(f"{module}.{name}")
    return found


def _inert(name: str) -> type[Inert]:
    """A stand-in of its own for each name: torch keeps them by class."""
    return type(name.rpartition(".")[2], (Inert,), {})


def _unreadable(path: Path, kind: Kind, error: Exception) -> str:
    reason = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
    found = _GLOBAL.search(str(error)) or _FILLED.search(str(error))
    if found:
        return (
            f"weights file {path} cannot be read: it holds a pickled {found[1]}, whose code vitq never runs; where you "
            "trust the file, load it yourself and save the state dict alone"
        )
    what = {
        "zip": "a zip file, but no PyTorch checkpoint, or cut short",
        "pickle": "a pickle of other things, or damaged",
    }
    return f"weights file {path} cannot be read ({what.get(kind, 'cut short or damaged')}): {reason}"


def _unwrapped(content: Any, path: Path) -> State:
    """The dictionary of tensors inside a checkpoint: its plain weights, or its average where it has only that."""
    for _ in range(4):
        if not isinstance(content, dict) or not content:
            raise BadInputError(f"weights file {path} holds no dictionary of tensors: save the model's state dict")
        inner = [key for key in (*PLAIN, *AVERAGED) if isinstance(content.get(key), dict) and content[key]]
        if not inner:
            break
        _say_which(inner, path)
        content = content[inner[0]]
    for key, value in content.items():
        if not isinstance(key, str):
            raise BadInputError(
                f"weights file {path} has the key {key!r}, which is no name: save the model's state dict"
            )
        if not isinstance(value, Tensor):
            raise BadInputError(
                f"weights file {path} holds no plain dictionary of tensors: {key!r} is a {type(value).__name__}; "
                "save the model's state dict"
            )
    return dict(content)


def _say_which(found: list[str], path: Path) -> None:
    if len(found) > 1:
        unused = " and ".join(found[1:])
        warnings.warn(f"weights file {path}: {found[0]} is used, {unused} is not", WeightsWarning, stacklevel=4)
    elif found[0] in AVERAGED:
        warnings.warn(
            f"weights file {path}: {found[0]}, a moving average, is used; it holds no other weights",
            WeightsWarning,
            stacklevel=4,
        )


def _check(name: str, tensor: Tensor, path: Path) -> None:
    """Refuse tensors that have no plain values to read."""
    kinds = {
        "on the meta device, without values": tensor.is_meta,
        "quantized": tensor.is_quantized,
        f"sparse ({tensor.layout})": tensor.layout != torch.strided,
    }
    for kind, holds in kinds.items():
        if holds:
            raise BadInputError(f"weights file {path}: tensor {name} is {kind}; save plain float32 tensors")


def _without_wrapper(state: State) -> State:
    """Names without what every one of them begins with by a wrapper's doing."""
    for _ in range(4):
        wrapper = next((w for w in _WRAPPERS if state and all(name.startswith(w) for name in state)), None)
        if wrapper is None:
            break
        state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    return state

"""A quantized model as one file: safetensors with codes packed at their own width, and a JSON header.

The file holds one flat tensor of packed codes and one for each type of what stays as it is, so that a small model is
not outweighed by the names of its tensors. The header's `tensors` lists, module by module in the order of the model,
what lies in them. Nothing of a file is ever executed, and its sizes are checked before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from vitq.errors import MethodInputError
from vitq.methods.base import Quantized
from vitq.methods.toolkit.model_state import holders, restore, state_of, stored
from vitq.methods.toolkit.saved_file import FORMAT, VERSION, Entry, digest, flatten, read_index, write_index

__all__ = ["SavedFile", "fill", "header_of", "read_header", "save"]


@dataclass(frozen=True)
class SavedFile:
    """What was written: where, the file's sha256, its bytes, and how they divide into payload and header.

    `payload_bytes` are codes, grids and what stays in floating point, which accounting's packed size counts too;
    `header_bytes` are names, shapes, options and identity, which it does not.
    """

    path: Path
    sha256: str
    bytes: int
    payload_bytes: int
    header_bytes: int


def header_of(
    method: str,
    options: dict[str, Any],
    bits: str,
    scope: str,
    facts: dict[str, Any],
    exec: str,
    architecture: dict[str, Any],
    identity: dict[str, Any],
) -> dict[str, Any]:
    """The header that `vitq.load` makes a model from, JSON-able.

    `bits` is written as `W4A4`, `scope` is `model` for the whole of it, `architecture` is {"task": name, "model": the
    model's entry as JSON}; `facts` and `exec` are those of `Quantized`. Callers may add keys of their own.
    """
    return {
        "format": FORMAT, "version": VERSION, "method": method, "options": options, "bits": bits, "scope": scope,
        "facts": facts, "exec": exec, "architecture": architecture, "identity": identity,
    }  # fmt: skip


def save(done: Quantized, path: Path, header: dict[str, Any]) -> SavedFile:
    """Write a quantized model under a temporary name, then rename it: a file of that name is whole or not there.

    `format`, `version`, `facts` and `exec` are added where the header lacks them. Raises MethodInputError for a header
    that is no JSON or contradicts `done`, a model with quantizers that were never fitted, and a place that cannot be
    written.
    """
    header = _complete(done, header)
    entries, payload = flatten(stored(done.model))
    index = write_index(entries)
    text = json.dumps(
        {"header": header, "tensors": index, "sha256": digest(header, index, payload)}, separators=(",", ":")
    )
    content = safetensors.torch.save(payload, {"vitq": text})
    _write(path, content)
    held = sum(t.numel() * t.element_size() for t in payload.values())
    return SavedFile(path, hashlib.sha256(content).hexdigest(), len(content), held, len(content) - held)


def _complete(done: Quantized, header: dict[str, Any]) -> dict[str, Any]:
    known = {"format": FORMAT, "version": VERSION, "facts": done.facts, "exec": done.exec}
    wrong = [name for name, value in known.items() if header.get(name, value) != value]
    if wrong:
        raise MethodInputError(f"the header to save says another {wrong[0]!r} than the quantized model")
    full = {**header, **known}
    try:
        same: dict[str, Any] = json.loads(json.dumps(full, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise MethodInputError(f"the header to save is not JSON: {error}") from error
    return same


def _write(path: Path, content: bytes) -> None:
    half = path.with_name(f".{path.name[:200]}.{os.getpid()}.half")
    try:
        with half.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise MethodInputError(f"{path} cannot be written: {error.strerror or error}") from error


def read_header(path: Path) -> dict[str, Any]:
    """The header of a saved model, its payload unread; MethodInputError where the file is none, in one line."""
    return read_index(path).header


def fill(model: nn.Module, path: Path) -> nn.Module:
    """Give every module of `model`, as `Method.restore` made it, its state from a saved file; in place, in eval mode.

    Nothing needs gradients afterwards. Raises MethodInputError where the file is no saved model, is damaged, or holds
    other tensors than the model has.
    """
    with torch.no_grad():
        states = read_index(path).states()
        for at, module in holders(model):
            expected = states.pop(at, {})
            try:
                restore(module, {name: tensor for name, (_, tensor) in expected.items()})
                _agree(at, module, {name: entry for name, (entry, _) in expected.items()})
            except (KeyError, RuntimeError, ValueError, TypeError) as error:
                raise MethodInputError(f"{path} belongs to another architecture, at {at or 'the model'}: "
                                       f"{_reason(error)}") from error  # fmt: skip
    if states:
        at, left = next(iter(states.items()))
        name = f"{at}.{next(iter(left))}" if at else next(iter(left))
        raise MethodInputError(f"{path} belongs to another architecture: this model has no place for {name}")
    model.requires_grad_(False).eval()  # which in some libraries gives nothing back
    return model


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the file holds no {error.args[0]}"
    return (str(error).splitlines() or [type(error).__name__])[0]


def _agree(path: str, module: nn.Module, expected: dict[str, Entry]) -> None:
    """The module would be saved again under the same names, shapes and widths."""
    again = {name: Entry.of(path, name, value) for name, value in state_of(module).items()}
    for name in sorted(again.keys() | expected.keys()):
        if name not in expected:
            raise KeyError(name)
        if name not in again:
            raise ValueError(f"this model has no place for {name}")
        if again[name] != expected[name]:
            raise ValueError(f"{name} is {expected[name].words()} in the file, {again[name].words()} in this model")

"""A training run's checkpoint: written whole or not at all, and refused by any other run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from vitq.errors import MethodInputError

State = dict[str, Any]
"""Tensors, numbers, strings, lists and dicts only, so that reading runs no code."""


def save(path: Path, state: State) -> None:
    """Replace `path` atomically: after `kill -9` or a power cut it holds the old state or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: Path, signature: State) -> State | None:
    """The state saved at `path`, on the CPU, or None where there is no file.

    Raises MethodInputError when the file cannot be read or belongs to a run with another signature.
    """
    if not path.exists():
        return None
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        saved = state["signature"]
    except (RuntimeError, EOFError, KeyError, TypeError, OSError, pickle.UnpicklingError) as error:
        raise MethodInputError(f"checkpoint {path} cannot be read ({type(error).__name__}): delete it") from error
    if saved != signature:
        keys = sorted(k for k in {*saved, *signature} if saved.get(k) != signature.get(k))
        differs = ", ".join(f"{k} was {saved.get(k)}, is {signature.get(k)}" for k in keys)
        raise MethodInputError(f"checkpoint {path} belongs to another training run ({differs}): delete or move it")
    return state

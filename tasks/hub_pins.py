"""Weights from the hub are pinned: to the models' table where it knows them, else to what was first read.

The first digests are kept in `hub_weights.json` of the user's cache folder. Unlike a cache it decides something, so one
that cannot be read or written stops the run with a line.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from filelock import FileLock

from vitq.digests import cache_folder
from vitq.errors import BadInputError
from vitq.tasks.names import ModelEntry

_DIGEST = re.compile(r"[0-9a-f]{64}")


def pin(entry: ModelEntry, found: str) -> None:
    """Hold the digest of a model's tensors to the known one, or make it the known one; BadInputError at a mismatch."""
    if entry.tensors_sha256 is not None:
        _same(entry.name, entry.tensors_sha256, found, "the table of models")
        return
    path = file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            known = _read(path)
            if entry.name in known:
                _same(entry.name, known[entry.name], found, str(path))
            else:
                _write(path, known | {entry.name: found})
    except OSError as error:
        raise BadInputError(
            f"the digest of the hub's {entry.name} cannot be kept in {path}: {error.strerror}; name another folder "
            "with VITQ_CACHE"
        ) from None


def pinned(entry: ModelEntry) -> str | None:
    """The digest that the hub's tensors of this model are held to; None before they were ever read."""
    return entry.tensors_sha256 or _read(file()).get(entry.name)


def file() -> Path:
    """Where the digests that were found first are kept; BadInputError where there is no cache folder."""
    folder = cache_folder()
    if folder is None:
        raise BadInputError("there is no cache folder to pin the hub's weights in: name one with VITQ_CACHE")
    return folder / "hub_weights.json"


def _same(name: str, known: str, found: str, where: str) -> None:
    if known != found:
        raise BadInputError(
            f"the weights of {name} have changed: sha256 is {found[:12]}..., {where} pins "
            f"{known[:12]}...; use the earlier ones, or remove the line where the change is wanted"
        )


def _read(path: Path) -> dict[str, str]:
    if not os.path.lexists(path):
        return {}
    broken = BadInputError(f"{path}, which pins the hub's weights, is damaged: mend it or remove it")
    if not path.is_file():
        raise broken
    try:
        known = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise broken from None
    if not isinstance(known, dict) or not all(isinstance(v, str) and _DIGEST.fullmatch(v) for v in known.values()):
        raise broken
    return known


def _write(path: Path, known: dict[str, str]) -> None:
    """Written beside and moved into place, so that a crash leaves the old file or the new one."""
    fresh = path.with_suffix(f".{os.getpid()}")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(known, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)

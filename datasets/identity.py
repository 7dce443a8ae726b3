"""What a data set is, as far as a fingerprint needs it; read without torch.

A folder is known by its `train` and `val` trees: the sorted relative paths and sizes of all files, not their bytes, so
that 50,000 images take a second. The digits ship with scikit-learn and are known by their stored splits.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

from vitq.errors import BadInputError


def data_identity(name: str, places: Mapping[str, Path]) -> str:
    """sha256 that changes when files of the data set come, go or change size; BadInputError when it has no folder."""
    if name == "digits":
        text = resources.files("vitq.datasets").joinpath("digits_splits.json").read_bytes()
        return hashlib.sha256(text).hexdigest()
    if name not in places:
        raise BadInputError(
            f'no folder is known for {name}: add {name} = "/path/to/it" under [datasets] in the site file'
        )
    root = places[name]
    if not root.is_dir():
        raise BadInputError(f"data set folder {root} is not there: correct {name} under [datasets] in the site file")
    digest = hashlib.sha256()
    for split in ("train", "val"):
        for path, size in _files(root / split):
            digest.update(f"{path.relative_to(root)}\0{size}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    if not folder.is_dir():
        return
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_dir():
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path), entry.stat().st_size

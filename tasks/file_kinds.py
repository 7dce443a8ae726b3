"""What a weights file is, told by its first bytes and not by its name; read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitq.errors import BadInputError

Kind = Literal["safetensors", "zip", "pickle"]
"""Tensors alone, or PyTorch's pickles: in a zip file, or one after the other as before torch 1.6 and as OpenMMLab
publishes its checkpoints."""
_MAX_HEADER = 100_000_000


def kind_of(path: Path) -> Kind:
    """The kind of a weights file; BadInputError for all else, and for no regular file."""
    if not path.is_file():
        what = "is not there" if not path.exists() else "is a folder" if path.is_dir() else "is a pipe or a device"
        raise BadInputError(f"weights file {path} {what}: give a .safetensors file or a PyTorch checkpoint")
    try:
        with path.open("rb") as file:
            head, size = file.read(9), path.stat().st_size
    except OSError as error:
        raise BadInputError(f"weights file {path} cannot be read: {error.strerror}") from None
    if head.startswith(b"PK"):
        return "zip"
    if head[:1] == b"\x80":
        return "pickle"
    header = int.from_bytes(head[:8], "little")
    if head[8:] == b"{":
        if header > min(size - 8, _MAX_HEADER):
            raise BadInputError(
                f"weights file {path} cannot be read: it is cut short, or its header lies about its size"
            )
        return "safetensors"
    if not size:
        raise BadInputError(f"weights file {path} is empty")
    raise BadInputError(f"weights file {path} is neither safetensors nor a PyTorch checkpoint: fetch the file again")

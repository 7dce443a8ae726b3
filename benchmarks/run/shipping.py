"""Files of a cell between the results folder and a machine that does not see it: before, and back with records."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vitq.benchmarks.run.messages import Order
from vitq.errors import BadInputError
from vitq.record import Record

Files = Mapping[str, bytes]
"""Content by the path from the results folder."""


def needed(order: Order) -> dict[str, bytes]:
    """What a machine needs of the results folder to go on with a cell: its model, and the artifacts of its training."""
    paths = [order.model_path, *(path for path in sorted(order.artifacts.rglob("*")) if path.is_file())]
    return {path.relative_to(order.folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def named_by(record: Record, folder: Path) -> dict[str, bytes]:
    """The files that a record names, as they lie in the folder."""
    names = [*record.files.values(), record.outcomes, record.model_file.path if record.model_file else None]
    return {name: (folder / name).read_bytes() for name in names if name and (folder / name).is_file()}


def write_all(files: Files, folder: Path) -> None:
    """Write files under a folder, each whole or not at all; BadInputError for a path that leads out of it."""
    for name, content in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BadInputError(f"a worker sent the file {name}, which is none of the results folder {folder}")
        write_whole(path, content)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}.half")
    half.write_bytes(content)
    half.replace(path)


@contextmanager
def marked(folder: Path) -> Iterator[Path]:
    """A file in the results folder that only who sees this very folder can read, as long as the context lasts."""
    mark = folder.resolve() / ".claims" / f"seen-{uuid.uuid4().hex}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(mark.name)
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def sees(mark: Path) -> bool:
    """Whether this machine sees the folder that was marked, under the same name."""
    try:
        return mark.read_text() == mark.name
    except OSError:
        return False

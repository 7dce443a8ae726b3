"""The records of a results folder: one JSON line each, appended so that a crash at any moment loses none.

Appends and repairs happen under a lock on a file beside the records, so that two processes may share the folder. A
line that a crash cut short is moved to `records.broken`, never lost and never fatal; any other line that is no record
is somebody's edit, and is reported with its number instead of being guessed at.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock
from pydantic import ValidationError

from vitq.benchmarks.record import SCHEMA_VERSION, Record
from vitq.errors import BadInputError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Store:
    """`records.jsonl` in a results folder.

    Attributes:
        folder: the results folder.
        set_aside: lines that were moved to `records.broken` by this process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.set_aside = folder, 0
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "records.jsonl"
        self._lock = FileLock(folder / ".records.lock")

    def records(self) -> list[Record]:
        """All records in the order they were written; raises BadInputError for a line that is no record."""
        if not self.path.is_file():
            return []
        with disk_errors(self.folder), self._lock:
            self._repair()
            data = self.path.read_bytes()
        return list(parse_records(data, self.path))

    def append(self, record: Record) -> bool:
        """Write one record and flush it to the disk; False, and nothing written, if this cell has a finished one.

        On a full disk nothing of the line stays and BadInputError is raised.
        """
        line = record.model_dump_json().encode() + b"\n"
        with disk_errors(self.folder), self._lock:
            self._repair()
            if self._has_finished(record.fingerprint):
                return False
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                end = os.lseek(handle, 0, os.SEEK_END)
                try:
                    _write_all(handle, line)
                    os.fsync(handle)
                except OSError:
                    os.ftruncate(handle, end)
                    raise
            finally:
                os.close(handle)
        return True

    def _has_finished(self, fingerprint: str) -> bool:
        if not self.path.is_file():
            return False
        with self.path.open("rb") as file:
            lines = [line for line in file if fingerprint.encode() in line]
        records = parse_records(b"".join(lines), self.path)
        return any(is_finished(r) for r in records if r.fingerprint == fingerprint)

    def _repair(self) -> None:
        """Move a last line without its newline to `records.broken`; the lock is held."""
        if not self.path.is_file():
            return
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            half = _tail(file, size)
            if not half:
                return
            with (self.folder / "records.broken").open("ab") as broken:
                broken.write(half + b"\n")
                broken.flush()
                os.fsync(broken.fileno())
            file.truncate(size - len(half))
            os.fsync(file.fileno())
        self.set_aside += 1


def is_finished(record: Record) -> bool:
    """Whether a cell with this record need not run again: failures are tried again, done and unsupported are not."""
    return record.status in ("done", "unsupported")


def _tail(file: BinaryIO, size: int) -> bytes:
    """What stands after the last newline of the first `size` bytes; empty when they end with one."""
    step, tail = 1 << 16, b""
    while size > 0:
        start = max(0, size - step)
        file.seek(start)
        tail = file.read(size - start) + tail
        cut = tail.rfind(b"\n")
        if cut >= 0:
            return tail[cut + 1 :]
        size = start
    return tail


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk, or a folder that cannot be written, into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise BadInputError(
                f"the disk of {folder} is full: finished records are kept; free some space and run again"
            ) from None
        if isinstance(error, (PermissionError, NotADirectoryError, FileExistsError)):
            raise BadInputError(f"results cannot be written to {folder}: {error.strerror}") from None
        raise


def parse_records(data: bytes, path: Path) -> Iterator[Record]:
    """Records of complete lines; raises BadInputError that names the first line that is no record."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = Record.model_validate_json(line)
        except ValidationError as error:
            what = error.errors(include_url=False)[0]
            where = ".".join(map(str, what["loc"]))
            raise BadInputError(
                f"{path} line {number} is not a record ({where + ': ' if where else ''}{what['msg']}): "
                "mend the line or move it to another file"
            ) from None
        if record.schema_version != SCHEMA_VERSION:
            raise BadInputError(
                f"{path} line {number} has schema version {record.schema_version}, this vitq reads {SCHEMA_VERSION}"
            )
        yield record


def read_records(path: Path) -> list[Record]:
    """Records of a file, or of the `records.jsonl` in a folder, without touching it; BadInputError when unreadable."""
    file = path / "records.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise BadInputError(
            f"no records at {path}: give a results folder or a records.jsonl, as `vitq run` writes them"
        )
    data = file.read_bytes()
    return list(parse_records(data[: data.rfind(b"\n") + 1], file))

"""The records of a results folder: one JSON line each, appended so that a crash at any moment loses none.

Appends and repairs happen under a lock on a file beside the records, so that two processes may share the folder. A
line that a crash cut short is moved to `records.broken`, never lost and never fatal; any other line that is no record
is somebody's edit, and is reported with its number instead of being guessed at.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock
from pydantic import ValidationError

from vitq.errors import BadInputError
from vitq.methods.cards import all_cards
from vitq.record import ELSEWHERE, SCHEMA_VERSION, Asked, Kind, Line, Record, Status, parse_line
from vitq.rows import Row, join

_MEND = "mend the line or move it to another file"
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class FolderGoneError(Exception):
    """The results folder was deleted while cells ran; the message is the line for the user."""


class Store:
    """`records.jsonl` in a results folder.

    What has finished is remembered, and only lines that came since are read again: by this process or another.

    Attributes:
        folder: the results folder.
        set_aside: lines that were moved to `records.broken` by this process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.set_aside = folder, 0
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._inode = folder.stat().st_ino
        self.path = folder / "records.jsonl"
        self._lock = FileLock(folder / ".records.lock")
        self._read_to = 0
        self._finished: dict[tuple[Kind, str], Status] = {}
        self._asked: dict[str, str] = {}

    def lines(self) -> list[Line]:
        """All lines in the order they were written; raises BadInputError for a line that is no record."""
        with self._locked():
            return list(parse_records(self.path.read_bytes(), self.path)) if self.path.is_file() else []

    def rows(self) -> list[Row]:
        """A row a cell."""
        return join(self.lines(), self.folder)

    def finished(self) -> dict[tuple[Kind, str], Status]:
        """Kind and key of every measurement that need not be done again, and how it ended."""
        with self._locked():
            self._catch_up()
        return dict(self._finished)

    def append(self, line: Line) -> bool:
        """Write one line and flush it to the disk; False, and nothing written, where it says nothing new.

        That is a measurement that has a finished record, or a cell that was asked for in the same way before. On a full
        disk nothing of the line stays and BadInputError is raised; FolderGoneError where the folder was deleted.
        """
        content = line.model_dump_json().encode() + b"\n"
        with self._locked():
            self._catch_up()
            if self._is_known(line):
                return False
            self._write(content)
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with disk_errors(self.folder):
            if not self.folder.is_dir() or self.folder.stat().st_ino != self._inode:
                raise FolderGoneError(
                    f"the results folder {self.folder} was deleted during the run: nothing more is measured; run again"
                )
            with self._lock:
                self._repair()
                yield

    def _write(self, content: bytes) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            end = os.lseek(handle, 0, os.SEEK_END)
            try:
                _write_all(handle, content)
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, end)
                raise
        finally:
            os.close(handle)

    def _catch_up(self) -> None:
        """Take note of the lines that were written since the last call."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            fresh = file.read()
        for line in parse_records(fresh, self.path):
            if isinstance(line, Asked):
                self._asked[line.cell.id] = _asking(line)
            elif line.finished:
                self._finished[line.kind, line.key] = line.status
        self._read_to += len(fresh)

    def _is_known(self, line: Line) -> bool:
        if isinstance(line, Record):
            return (line.kind, line.key) in self._finished
        return self._asked.get(line.cell.id) == _asking(line)

    def _repair(self) -> None:
        """Give a last line its newline where it is whole, else move it to `records.broken`; the lock is held."""
        if not self.path.is_file():
            return
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            half = _tail(file, size)
            if not half:
                return
            if _is_line(half):
                file.write(b"\n")
                return
            with (self.folder / "records.broken").open("ab") as broken:
                broken.write(half + b"\n")
                broken.flush()
                os.fsync(broken.fileno())
            file.truncate(size - len(half))
            os.fsync(file.fileno())
        self.set_aside += 1


def _asking(line: Asked) -> str:
    """sha256 of what is asked for: a run of thousands of cells need not keep the lines themselves."""
    return hashlib.sha256(line.model_dump_json(include={"cell", "keys", "fp32_key"}).encode()).hexdigest()


def _is_line(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


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
        if isinstance(error, (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError)):
            raise BadInputError(f"results cannot be written to {folder}: {error.strerror}") from None
        raise


def parse_records(data: bytes, path: Path) -> Iterator[Line]:
    """Records of complete lines; raises BadInputError that names the first line that is no record."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            yield _parse(line, f"{path} line {number}")


def _parse(line: bytes, where: str) -> Line:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        raise BadInputError(f"{where} is not a record (no JSON): {_MEND}") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version is None:
        raise BadInputError(f"{where} is not a record (it has no schema version): {_MEND}")
    if version != SCHEMA_VERSION:
        raise BadInputError(
            f"{where} has schema version {str(version)[:20]}, this vitq reads {SCHEMA_VERSION}: results of another "
            "version are not mixed with new ones; give another folder with --results"
        )
    try:
        record = parse_line(content)
    except (ValidationError, RecursionError) as error:
        raise BadInputError(f"{where} is not a record ({_first_fault(error)}): {_MEND}") from None
    if record.cell.method not in (*all_cards(), ELSEWHERE):
        raise BadInputError(
            f"{where} is of method {record.cell.method!r}, which this vitq does not have: install the package that "
            f"adds it, or {_MEND}"
        )
    return record


def _first_fault(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "too deeply nested"
    what = error.errors(include_url=False)[0]
    where = ".".join(map(str, what["loc"]))
    return f"{where + ': ' if where else ''}{what['msg'].removeprefix('Value error, ')}"


def read_lines(path: Path) -> list[Line]:
    """Lines of a file, or of the `records.jsonl` in a folder, without touching it; BadInputError when unreadable.

    A last line without a newline counts where it is whole; one that a crash cut short is left out with a warning.
    """
    file = path / "records.jsonl" if path.is_dir() else path
    try:
        if not file.is_file():
            raise BadInputError(
                f"no records at {path}: give a results folder or a records.jsonl, as `vitq run` writes them"
            )
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        raise BadInputError(f"records {file} cannot be read: {getattr(error, 'strerror', error)}") from None
    whole, half = data[: data.rfind(b"\n") + 1], data[data.rfind(b"\n") + 1 :]
    if half and _is_line(half):
        whole, half = data, b""
    if half:
        warnings.warn(f"the last line of {file} was cut short and is left out", UserWarning, stacklevel=2)
    return list(parse_records(whole, file))


def read_rows(path: Path) -> list[Row]:
    """A row a cell of a records file or a results folder; BadInputError when unreadable."""
    return join(read_lines(path), path if path.is_dir() else path.parent)

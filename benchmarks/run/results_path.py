"""The results folder, checked whole before a cell is computed: what is there, and that something can be written."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path

from vitq.errors import BadInputError

FILES = ("records.jsonl", "records.broken", ".records.lock")
FOLDERS = ("artifacts", "outcomes", "models", "report", ".claims")


def check_results(folder: Path) -> None:
    """Make the folder and hold what vitq keeps in it to its kind, then write, flush and remove a file.

    Raises BadInputError where the place is a file, link to nowhere, device or pipe, where a service file or folder is
    something else than vitq makes, and where nothing can be written (rights, read-only or full disk, too long a name).
    """
    check_folder(folder, "results")
    for name in FILES:
        _kind(folder / name, stat.S_ISREG, "a regular file")
    for name in FOLDERS:
        _kind(folder / name, stat.S_ISDIR, "a folder")
        if (folder / name).is_dir() and name != "report":
            _can_write(folder / name, "results")


def check_folder(folder: Path, what: str) -> None:
    """Make a folder that can be written to; `what` names it in BadInputError."""
    try:
        if os.path.lexists(folder) and not folder.is_dir():
            raise BadInputError(f"{what} {folder} is {_is(folder)}: name a folder, or remove it")
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise BadInputError(f"{what} {_short(folder)} cannot be made: {_reason(error)}") from None
    _can_write(folder, what)


def _can_write(folder: Path, what: str) -> None:
    probe = folder / f".probe-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.write(handle, b"vitq\n")
            os.fsync(handle)
        finally:
            os.close(handle)
            probe.unlink()
    except OSError as error:
        raise BadInputError(f"{what} cannot be written to {_short(folder)}: {_reason(error)}") from None


def _kind(path: Path, wanted: Callable[[int], bool], name: str) -> None:
    try:
        if os.path.lexists(path) and not (path.exists() and wanted(path.stat().st_mode)):
            raise BadInputError(f"{path} is {_is(path)}, where vitq keeps {name}: move it away")
        if path.is_file() and not os.access(path, os.R_OK | os.W_OK):
            raise BadInputError(f"{path} cannot be read and written: give yourself the right, or name another folder")
    except OSError as error:
        raise BadInputError(f"{_short(path)} cannot be read: {_reason(error)}") from None


def _is(path: Path) -> str:
    """What stands at a path that exists."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "a link that leads nowhere"
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISREG, "a file"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((word for holds, word in kinds if holds(mode)), "no file")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _short(path: Path, width: int = 200) -> str:
    text = str(path)
    return text if len(text) <= width else f"{text[: width // 2]}...{text[-width // 2 :]}"

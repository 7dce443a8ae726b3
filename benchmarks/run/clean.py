"""Dropping files of a results folder that no current row needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from vitq.benchmarks.run.store import read_lines
from vitq.errors import BadInputError
from vitq.outcomes import FOLDER as OUTCOMES
from vitq.record import Line, Record, kind_of
from vitq.rows import latest

FOLDERS = ("artifacts", "models", OUTCOMES)


def clean(folder: Path, dry_run: bool = False) -> str:
    """Delete what belongs to no cell as it was last asked for; one line on what went.

    Records stay. BadInputError where there are none, and while another vitq works on the folder.
    """
    lines = read_lines(folder)
    check_idle(folder)
    needed = {folder / name for name in _needed(lines)}
    doomed = [path for path in _files(folder) if path not in needed]
    freed = sum(path.lstat().st_size for path in doomed)
    for path in () if dry_run else doomed:
        path.unlink()
    if not dry_run:
        _drop_empty(folder)
    verb = "would delete" if dry_run else "deleted"
    return f"{verb} {len(doomed)} files of {freed / 1e6:.1f} MB that no current record needs; {len(needed)} are needed"


def _needed(lines: Sequence[Line]) -> set[str]:
    asked = latest(lines).asked
    current = {(kind_of(name), key) for line in asked.values() for name, key in line.keys.items()}
    current |= {("accuracy", line.fp32_key) for line in asked.values() if line.fp32_key}
    names: set[str] = set()
    for record in lines:
        if isinstance(record, Record) and (record.kind, record.key) in current:
            names.update(record.files.values())
            names.update(name for name in (record.outcomes, record.model_file and record.model_file.path) if name)
    return names


def _files(folder: Path) -> Iterator[Path]:
    for name in FOLDERS:
        for path in sorted((folder / name).rglob("*")):
            if path.is_symlink() or not path.is_dir():
                yield path


def _drop_empty(folder: Path) -> None:
    for name in FOLDERS:
        for path in sorted((folder / name).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()


def check_idle(folder: Path) -> None:
    """BadInputError while another vitq works on a results folder."""
    for path in sorted((folder / ".claims").glob("*.lock")):
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise BadInputError(f"another vitq works on {folder}: wait until it has ended") from None
        lock.release()

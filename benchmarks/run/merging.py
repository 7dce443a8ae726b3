"""Joining results folders: every line of each, every file that a record names, and nothing that contradicts another.

Two records of one measurement must say the same of it. When they were made, by whom and in which time is no part of
that; a measurement that failed in one folder and was done in the other is no contradiction either. Lines are put in
the order in which they were written, so that of two askings for a cell the later one counts, as in one folder.
"""

from __future__ import annotations

import heapq
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from vitq.benchmarks.run.clean import FOLDERS, check_idle
from vitq.benchmarks.run.store import disk_errors, read_lines
from vitq.outcomes import FOLDER as OUTCOMES
from vitq.record import Kind, Line, Record

_MADE = {"cell", "seconds", "peak_memory_mb", "warnings", "traceback", "provenance", "fidelity", "files", "model_file"}
"""Fields of a record that tell of its making, and not of what was measured; files are compared by themselves."""


class ContradictionError(Exception):
    """Folders that cannot be joined; `lines` says of each measurement or file how it differs."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(*lines)
        self.lines = tuple(lines)


@dataclass(frozen=True)
class Merged:
    """What was joined: lines in all, those that were new to the first folder, and files that were copied to it.

    `kept` are artifacts that lie in several folders with other content; the first one stays.
    """

    lines: int
    new: int
    files: int
    kept: int


def merge(folders: Sequence[Path], into: Path) -> Merged:
    """Join results folders in `into`, which may be one of them.

    Raises ContradictionError where records contradict one another, BadInputError where a folder has no records or
    another vitq works on it; nothing is written then.
    """
    sources = list({folder.resolve(): folder for folder in folders}.values())
    lines = [read_lines(folder) for folder in sources]
    there = read_lines(into) if (into / "records.jsonl").is_file() else []
    for folder in {*sources, *([into] if into.is_dir() else [])}:
        check_idle(folder)
    sources, lines = _with_first(into, there, sources, lines)
    wrong = [*_contradictions(sources, lines), *_other_files(sources)]
    if wrong:
        raise ContradictionError(wrong)
    with disk_errors(into):
        into.mkdir(parents=True, exist_ok=True)
        copied, kept = _copy_all(sources, into)
        every = joined(lines)
        _write(every, into)
    return Merged(len(every), len(every) - len(joined([there])), copied, kept)


def _with_first(
    into: Path, there: list[Line], sources: list[Path], lines: list[list[Line]]
) -> tuple[list[Path], list[list[Line]]]:
    """The folder that is written to before the others, where it has records of its own."""
    if not there or into.resolve() in {folder.resolve() for folder in sources}:
        return sources, lines
    return [into, *sources], [there, *lines]


def joined(lines: Sequence[Sequence[Line]]) -> list[Line]:
    """The lines of all in the order they were written, each measurement that has finished and each equal line once."""
    found: dict[object, Line] = {}
    for line in heapq.merge(*lines, key=lambda each: each.provenance.finished):
        finished = isinstance(line, Record) and line.finished
        found.setdefault((line.kind, line.key) if finished else line.model_dump_json(), line)  # type: ignore[union-attr]
    return list(found.values())


def _contradictions(sources: Sequence[Path], lines: Sequence[Sequence[Line]]) -> Iterator[str]:
    """A line for each measurement of which two folders say different things."""
    first: dict[tuple[Kind, str], tuple[Path, Record]] = {}
    told = set()
    for folder, each in zip(sources, lines, strict=True):
        for record in each:
            if not isinstance(record, Record) or not record.finished:
                continue
            place = (record.kind, record.key)
            where, known = first.setdefault(place, (folder, record))
            differ = _differing(known, record)
            if differ and place not in told:
                told.add(place)
                yield (
                    f"{record.kind} of {record.cell.id} (key {record.key[:12]}) differs between {where} and {folder}: "
                    f"{', '.join(differ)}"
                )


def _differing(one: Record, other: Record) -> list[str]:
    """The fields in which two records of one measurement contradict each other."""
    left, right = (record.model_dump(mode="json", exclude=_MADE) for record in (one, other))
    differ = [name for name in left if left[name] != right[name]]
    files = [record.model_file.sha256 if record.model_file else None for record in (one, other)]
    return [*differ, *(["model_file"] if files[0] != files[1] else [])]


def _other_files(sources: Sequence[Path]) -> Iterator[str]:
    """A line for each file of outcomes or of a model that lies in two folders with other content."""
    first: dict[Path, Path] = {}
    for folder, path in _files(sources, ("models", OUTCOMES)):
        known = first.setdefault(path, folder)
        if known != folder and not _same(known / path, folder / path):
            yield f"{path} differs between {known} and {folder}: delete the one that its record does not name"


def _files(sources: Iterable[Path], kinds: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """Folder and path in it of every file of these kinds; links and half-written files are left out."""
    for folder in sources:
        for kind in kinds:
            for path in sorted((folder / kind).rglob("*")):
                if path.is_file() and not path.is_symlink() and path.suffix != ".half":
                    yield folder, path.relative_to(folder)


def _copy_all(sources: Sequence[Path], into: Path) -> tuple[int, int]:
    """Copy what is not there yet, each file whole or not at all; how many were, and how many differ and stay."""
    copied = kept = 0
    for folder, path in _files(sources, FOLDERS):
        source, target = folder / path, into / path
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            half = target.with_name(f"{target.name}.{os.getpid()}.half")
            shutil.copyfile(source, half)
            half.replace(target)
            copied += 1
        elif not _same(source, target):
            kept += 1
    return copied, kept


def _same(one: Path, other: Path) -> bool:
    return one.samefile(other) or (
        one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()
    )


def _write(lines: Sequence[Line], folder: Path) -> None:
    """Put these lines in the place of the folder's, all at once."""
    path = folder / "records.jsonl"
    with FileLock(folder / ".records.lock"):
        half = path.with_name(f"records.{os.getpid()}.half")
        with half.open("wb") as file:
            file.writelines(line.model_dump_json().encode() + b"\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)

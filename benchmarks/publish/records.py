"""Records as they are published: all that was measured, nothing that only the machine that measured it could use.

Kept: keys with their identities, metrics with every sample's outcome, counts, times with what was around them, what a
method says of its work, warnings, errors, versions, machine and command. Dropped: files of models and artifacts, which
stay where they were made (a model's sha256 is kept), and where in the code an error was raised.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vitq.benchmarks.gate.baseline import outcomes_of
from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.suite import Suite
from vitq.benchmarks.run.store import read_lines
from vitq.errors import BadInputError
from vitq.outcomes import FOLDER as OUTCOMES
from vitq.record import Line, Record, kind_of
from vitq.rows import latest

_PATH = re.compile(r"(?<![\w.:/\])])/(?:[\w.+-]+/)+[\w.+-]*|\b[A-Za-z]:\\[\w.\\ -]+")
"""An absolute path: of two names at least, so that `1/2` and `and/or` are none; addresses are none either."""


def publish(suite: Suite, results: Path, out: Path) -> list[Line]:
    """Write `records.jsonl` and `outcomes/` of a finished suite to `out`, in place of what is there; the lines.

    Raises BadInputError where a cell of the suite has no record yet, outcomes are missing or broken, or a record names
    a path of the machine; what was published before is then still there.
    """
    lines = published(suite, read_lines(results))
    for line in lines:
        _check_paths(line)
    files = {line.outcomes: outcomes_of(line, results) for line in lines if isinstance(line, Record) and line.outcomes}
    shutil.rmtree(out / OUTCOMES, ignore_errors=True)
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    out.mkdir(parents=True, exist_ok=True)
    text = "".join(line.model_dump_json() + "\n" for line in lines)
    (out / "records.jsonl").write_text(text, encoding="utf-8")
    return lines


def published(suite: Suite, lines: Sequence[Line]) -> list[Line]:
    """Of a suite's cells in its order: the measurements that count, then who asked; each once.

    BadInputError names how many cells have a measurement that was not made, and the first.
    """
    known, cells = latest(lines), [cell.id for cell in expand(suite)[0]]
    missing = [name for name in cells if name not in known.asked]
    found: dict[Any, Line] = {}
    for name in cells:
        if (asked := known.asked.get(name)) is None:
            continue
        keys = [(kind_of(each), key) for each, key in asked.keys.items()]
        missing += [name] if any(key not in known.records for key in keys) else []
        if asked.fp32_key is not None:
            keys.append(("accuracy", asked.fp32_key))
        found |= {key: _stripped(known.records[key]) for key in keys if key in known.records}
        found[name] = asked
    if missing:
        raise BadInputError(
            f"{len(missing)} of {len(cells)} cells of {suite.name} are not finished, {missing[0]} is the first: "
            f"finish them by `vitq run {suite.name}`"
        )
    return list(found.values())


def _stripped(record: Record) -> Record:
    file = record.model_file
    gone = None if file is None else file.model_copy(update={"kept": False})
    return record.model_copy(update={"files": {}, "traceback": None, "model_file": gone})


def _check_paths(line: Line) -> None:
    for where, text in _texts(json.loads(line.model_dump_json())):
        if found := _PATH.search(text):
            raise BadInputError(
                f"{line.cell.id}: {where} names a path of this machine, {found[0]!r}: run it with relative paths"
            )


def _texts(content: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a line with the field that holds it."""
    if isinstance(content, str):
        yield where, content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from _texts(value, where or name)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value, where)

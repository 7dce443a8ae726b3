"""A baseline of a finished run: the lines and outcomes that a gate needs, without what it does not.

Kept: what was asked for, accuracy with every sample's outcome, counts, FP32, why a cell failed to be measured, and
latency where it is wanted. Dropped: records of models, artifacts, details, warnings, seconds, commands and paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitq import outcomes
from vitq.benchmarks.run.store import read_lines
from vitq.errors import BadInputError
from vitq.record import Asked, Line, Name, Provenance, Record, kind_of
from vitq.rows import latest

_FIELDS = ("kind", "key", "identity", "cell", "status", "fidelity", "metrics", "outcomes", "output_sha256", "size",
           "operations", "latency")  # fmt: skip


def write_baseline(results: Path, out: Path, *, latency: bool) -> list[Line]:
    """Write `records.jsonl` and `outcomes/` to `out`, which must be new or empty; the lines, in order of asking.

    Raises BadInputError where nothing is finished, outcomes are missing or broken, or `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInputError(f"{out} holds something: remove it, or name a new folder")
    lines = kept(read_lines(results), latency=latency)
    if not lines:
        raise BadInputError(f"{results} holds no cell that was measured: finish a run first")
    files = {line.outcomes: outcomes_of(line, results) for line in lines if isinstance(line, Record) and line.outcomes}
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (out / "records.jsonl").write_text(
        "".join(line.model_dump_json(exclude_none=True) + "\n" for line in lines), encoding="utf-8"
    )
    return lines


def kept(lines: Sequence[Line], *, latency: bool) -> list[Line]:
    """Every cell's last asking with the records that count of its measurements, stripped, each once."""
    known = latest(lines)
    found: dict[Any, Line] = {}
    for each in known.asked.values():
        own = {name: record for name, key in each.keys.items() if (record := known.records.get((kind_of(name), key)))}
        wanted = {name: record for name, record in own.items() if _is_wanted(name, record, latency)}
        if not wanted:
            continue
        fp32 = known.records.get(("accuracy", each.fp32_key or ""))
        for record in (*wanted.values(), *([fp32] if fp32 else [])):
            found[record.kind, record.key] = _stripped(record)
        found[each.cell.id] = _stripped_asking(each, wanted)
    return list(found.values())


def _is_wanted(name: Name, record: Record, latency: bool) -> bool:
    """Accuracy and counts; latency, that of runtimes too, where it is wanted.

    Another record that failed is kept whatever it is of: its cell is no baseline, and the gate is to say so.
    """
    if name.startswith("latency:"):
        return latency
    return record.status != "done" or record.kind in ("accuracy", "counts") or (latency and record.kind == "latency")


def _stripped(record: Record) -> Record:
    fields = {name: getattr(record, name) for name in _FIELDS}
    error = None if record.status == "done" else f"{record.status} when the baseline was made"
    where = _origin(record.provenance, processor=record.kind == "latency")
    return Record(**fields, error=error, provenance=where)


def _stripped_asking(asked: Asked, records: dict[Name, Record]) -> Asked:
    keys = {name: record.key for name, record in records.items()}
    return Asked(
        cell=asked.cell, keys=keys, fp32_key=asked.fp32_key, paper_name=asked.paper_name,
        added_by=asked.added_by, provenance=_origin(asked.provenance, processor=False),
    )  # fmt: skip


def _origin(provenance: Provenance, *, processor: bool) -> Provenance:
    """Without the command; names of processors count for latency alone."""
    return provenance.model_copy(
        update={
            "command": "",
            "cpu": provenance.cpu if processor else "",
            "gpu": provenance.gpu if processor else None,
        }
    )


def outcomes_of(record: Record, results: Path) -> bytes:
    """The content of a record's file of outcomes, read as the gate will read it; BadInputError where it cannot be."""
    folder = results if results.is_dir() else results.parent
    path = folder / str(record.outcomes)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadInputError(f"a record in {folder} names outcomes outside its folder: {record.outcomes!r}")
    outcomes.read(path, record.metrics)
    return path.read_bytes()

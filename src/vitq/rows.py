"""A row a cell: what was asked for, joined with every measurement that has its keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from vitq.details import Details, with_details
from vitq.record import (
    Asked,
    Calibrated,
    CellKey,
    Fidelity,
    Identity,
    Kind,
    LatencyAround,
    LatencyRow,
    Line,
    Metric,
    ModelFile,
    Name,
    Operations,
    Provenance,
    Record,
    Size,
    Status,
    in_order,
    kind_of,
)


class Row(BaseModel):
    """One cell with what is known of it; a measurement that is missing leaves its fields empty.

    Attributes:
        keys: of the measurements that were asked for, by kind; `identity` likewise.
        fp32: the FP32 model's metrics on the same samples.
        status: `done` where every measurement that was asked for is; else that of the first that is not. A runtime that
            has no form of the model changes it no more than an empty column would.
        added_by: packages of what another package than vitq adds, as `Asked` has them.
        no_runtime: why the model was timed on no kernel of a runtime, by the runtime's name.
        latency_around: what the machine did while latency was measured, by session.
        folder: results folder that `files` and outcomes are relative to; None where records were given without one.
        outcomes, fp32_outcomes: files of every sample's outcome, relative to `folder`.
        seconds: by phase, over all measurements; `peak_memory_mb` the largest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    cell: CellKey
    keys: dict[Name, str] = Field(default_factory=dict)
    identity: dict[Name, Identity] = Field(default_factory=dict)
    status: Status
    fidelity: Fidelity = "baseline"
    paper_name: str | None = None
    added_by: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, Metric] = Field(default_factory=dict)
    fp32: dict[str, Metric] = Field(default_factory=dict)
    outcomes: str | None = None
    fp32_outcomes: str | None = None
    output_sha256: str | None = None
    size: Size | None = None
    operations: Operations | None = None
    latency: list[LatencyRow] = Field(default_factory=list)
    latency_around: dict[str, LatencyAround] = Field(default_factory=dict)
    no_runtime: dict[str, str] = Field(default_factory=dict)
    model_file: ModelFile | None = None
    calibrated: Calibrated | None = None
    details: SerializeAsAny[Details] | None = None
    files: dict[str, str] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    peak_memory_mb: float | None = None
    error: str | None = None
    warnings: list[str] = Field(default_factory=list)
    provenance: Provenance
    latency_provenance: Provenance | None = None
    folder: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _typed(cls, fields: Any) -> Any:
        return with_details(fields)

    @property
    def key(self) -> str:
        """What names the row in short: the key of its accuracy, or of its counts where nothing was evaluated."""
        return self.keys.get("accuracy") or self.keys.get("counts") or next(iter(self.keys.values()), "")

    def part(self, name: str) -> str | None:
        """A part of the accuracy's identity, such as `weights` or `validation`."""
        return self.identity.get("accuracy", {}).get(name)


@dataclass
class Latest:
    """Of some lines, those that count: each cell's last asking by its id, and each measurement's record.

    The last record of a measurement counts, but a finished one before a later failure: it has measured, and the failure
    has not. `finished` are the measurements that need not be made again, and how they ended.
    """

    asked: dict[str, Asked] = field(default_factory=dict)
    records: dict[tuple[Kind, str], Record] = field(default_factory=dict)
    finished: dict[tuple[Kind, str], Status] = field(default_factory=dict)

    def add(self, line: Line) -> None:
        """Take note of a line that was written after all before."""
        if isinstance(line, Asked):
            self.asked[line.cell.id] = line
            return
        before = self.records.get((line.kind, line.key))
        if before is None or line.finished or not before.finished:
            self.records[line.kind, line.key] = line
        if line.finished:
            self.finished[line.kind, line.key] = line.status


def latest(lines: Iterable[Line]) -> Latest:
    """The lines that count, of lines in the order they were written."""
    found = Latest()
    for line in lines:
        found.add(line)
    return found


def join(lines: Iterable[Line], folder: Path | None = None) -> list[Row]:
    """A row for every cell that was asked for, in the order of asking; the lines that count are those of `Latest`."""
    found = latest(lines)
    rows = [_row(each, found.records, folder) for each in found.asked.values()]
    return [row for row in rows if row is not None]


def _row(asked: Asked, records: dict[tuple[Kind, str], Record], folder: Path | None) -> Row | None:
    """None for a cell of which nothing is known yet."""
    found = {name: (kind_of(name), asked.keys[name]) for name in in_order(asked.keys)}
    own = {name: records[key] for name, key in found.items() if key in records}
    if not own:
        return None
    fp32 = records.get(("accuracy", asked.fp32_key or ""))
    no_form = {name for name, r in own.items() if name.startswith("latency:") and r.status == "unsupported"}
    bad = next((r for name, r in own.items() if r.status != "done" and name not in no_form), None)
    timed = [record for record in own.values() if record.kind == "latency"]
    main = own.get("accuracy") or own.get("model") or next(iter(own.values()))
    fields: dict[str, Any] = {}
    for record in own.values():
        fields.setdefault("files", {}).update(record.files)
        fields.setdefault("seconds", {}).update(record.seconds)
    return Row(
        cell=asked.cell,
        keys=asked.keys,
        identity={kind: record.identity for kind, record in own.items()},
        status=bad.status if bad else "done",
        fidelity=main.fidelity,
        paper_name=asked.paper_name,
        added_by=asked.added_by,
        metrics=own["accuracy"].metrics if "accuracy" in own else {},
        fp32=fp32.metrics if fp32 else {},
        outcomes=own["accuracy"].outcomes if "accuracy" in own else None,
        fp32_outcomes=fp32.outcomes if fp32 else None,
        output_sha256=own["accuracy"].output_sha256 if "accuracy" in own else None,
        size=own["counts"].size if "counts" in own else None,
        operations=own["counts"].operations if "counts" in own else None,
        latency=_each_once(row for record in timed for row in record.latency),
        latency_around={name: around for record in timed for name, around in record.latency_around.items()},
        no_runtime={name.partition(":")[2]: own[name].error or "" for name in in_order(no_form)},
        model_file=own["model"].model_file if "model" in own else None,
        details=own["model"].details if "model" in own else None,
        calibrated=own["model"].calibrated if "model" in own else None,
        peak_memory_mb=max((r.peak_memory_mb for r in own.values() if r.peak_memory_mb), default=None),
        error=bad.error if bad else None,
        warnings=list(dict.fromkeys(text for r in own.values() for text in r.warnings)),
        provenance=main.provenance,
        latency_provenance=timed[0].provenance if timed else None,
        folder=folder,
        **fields,
    )


def _each_once(rows: Iterable[LatencyRow]) -> list[LatencyRow]:
    """Rows without those that several records of one session share."""
    return list({(row.exec, *row.place): row for row in rows}.values())


def by_cell(rows: Iterable[Row]) -> dict[str, Row]:
    """Rows by their cell's id; of two rows of one cell the last one counts."""
    return {row.cell.id: row for row in rows}

"""Made results: cells, records, lines, rows and results folders, for tests of whatever reads them.

    top1 = evaluated(record("accuracy", "minmax/.../W8A8/seed0"), right, folder)
    write_results(folder, asked(CELL, top1, record("counts", CELL)), top1, ...)

`lines(cell, ...)` gives the lines of one finished cell with every kind of measurement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitq import outcomes
from vitq.record import (
    Asked,
    CellKey,
    Kind,
    LatencyRow,
    Line,
    Metric,
    ModelFile,
    Operations,
    Provenance,
    Record,
    Size,
    key_of,
)
from vitq.rows import Row, join

CELL = "repq_vit/classification/digits/digits_vit/W4A4/seed0"
HERE = Provenance(
    vitq="0.2.0",
    git_commit="0" * 40,
    git_dirty=False,
    packages={"torch": "2.8.0", "timm": "1.0.19", "numpy": "2.3.1"},
    python="3.12.3",
    cpu="A CPU of 2 cores",
    machine="machine-a",
    threads=1,
    command="vitq run smoke",
    finished="2026-01-02T03:04:05+00:00",
)
SAMPLES = "5a" * 32
SIZE = Size(params=12_810, fp32_mb=0.05124, packed_mb=0.0081, conventions={"block_weights": 0.0064})
OPERATIONS = Operations(macs=1_926_400, bitops=30_822_400, ops=481_600.0, conventions={"without_attention": 450_000.0})


def cell(id: str = CELL, **fields: Any) -> CellKey:
    """A cell whose names are those of its id."""
    method, task, dataset, model, bits, seed, *rest = id.split("/")
    name, _, variant = method.partition("[")
    limit = next((int(part.removeprefix("limit")) for part in rest if part.startswith("limit")), None)
    named = {
        "id": id, "method": name, "variant": variant.rstrip("]"), "task": task, "dataset": dataset, "model": model,
        "bits": bits, "seed": int(re.sub(r"\D", "", seed)), "limit": limit,
        "calibration": {"images": 32, "batch": 32},
    }  # fmt: skip
    return CellKey(**{**named, **fields})


def record(kind: Kind, cell_: str | CellKey = CELL, **fields: Any) -> Record:
    """A finished record; what is not given is made up. `identity` adds to, or replaces, the parts made up."""
    of = cell(cell_) if isinstance(cell_, str) else cell_
    identity = {**_identity(kind, of), **fields.pop("identity", {})}
    made: dict[str, Any] = {
        "kind": kind, "key": key_of(identity), "identity": identity, "cell": of, "status": "done", "provenance": HERE,
    }  # fmt: skip
    if fields.get("status", "done") == "done":
        made |= _measured(kind)
    else:
        made["error"] = "RuntimeError: no convergence"
    return Record(**{**made, **fields})


def _identity(kind: Kind, of: CellKey) -> dict[str, str]:
    made = {"method": of.method, "options": "11" * 32, "bits": of.bits, "model": "22" * 32, "code": "33" * 32}
    if kind in ("accuracy", "model"):
        made |= {"weights": "44" * 32, "seed": str(of.seed), "torch": "2.8.0"}
    if kind == "accuracy":
        made |= {"validation": "55" * 32, "subset": f"limit {of.limit}"}
    return {"kind": kind, "cell": of.id, **made}


def _measured(kind: Kind) -> dict[str, Any]:
    if kind == "accuracy":
        return {"metrics": {"top1": Metric(value=94.0, n=200, stderr=1.683)}, "output_sha256": "66" * 32}
    if kind == "counts":
        return {"size": SIZE, "operations": OPERATIONS}
    if kind == "latency":
        return {"latency": [form("fp32", [10.0] * 12), form("fake-quant", [30.0] * 12)]}
    return {
        "model_file": ModelFile(path=f"models/{'77' * 8}.safetensors", sha256="77" * 32, bytes=8300, header_bytes=90)
    }


def form(exec: str, samples: Sequence[float], **fields: Any) -> LatencyRow:
    """A latency row of these samples, in milliseconds."""
    median, p90 = (float(np.percentile(samples, share)) for share in (50, 90))
    made = {"exec": exec, "batch": 8, "threads": 1, "device": "cpu", "median_ms": median, "p90_ms": p90}
    return LatencyRow(**{**made, "samples_ms": list(samples), **fields})


def evaluated(accuracy: Record, right: Any, folder: Path, *, samples: str = SAMPLES, metric: str = "top1") -> Record:
    """The record with these outcomes [n] bool as its metric, and their file in `folder`."""
    right = np.asarray(right, dtype=bool)
    path = folder / outcomes.FOLDER / f"{accuracy.key[:16]}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(outcomes.packed({metric: right}, samples))
    value = 100 * float(right.mean())
    stderr = 100 * float(np.sqrt(right.mean() * (1 - right.mean()) / len(right)))
    metrics = {metric: Metric(value=value, n=len(right), stderr=stderr)}
    return accuracy.model_copy(update={"metrics": metrics, "outcomes": str(path.relative_to(folder))})


def asked(cell_: str | CellKey = CELL, *records: Record, fp32: Record | None = None, **fields: Any) -> Asked:
    """The line of a cell that asked for these records, and for this FP32 accuracy."""
    of = cell(cell_) if isinstance(cell_, str) else cell_
    keys = {each.kind: each.key for each in records}
    made = {"cell": of, "keys": keys, "fp32_key": fp32.key if fp32 else None, "provenance": HERE}
    return Asked(**{**made, **fields})


def fp32_of(cell_: str | CellKey = CELL, **fields: Any) -> Record:
    """The FP32 accuracy that a cell is compared with; one for all cells of a model and data set."""
    of = cell(cell_) if isinstance(cell_, str) else cell_
    rest = f"/limit{of.limit}" if of.limit else ""
    made = {"metrics": {"top1": Metric(value=97.5, n=200, stderr=1.1)}, "fidelity": "baseline"}
    return record("accuracy", f"fp32/{of.task}/{of.dataset}/{of.model}/FP32/seed0{rest}", **{**made, **fields})


def lines(cell_: str | CellKey = CELL, **replaced: Record | None) -> list[Line]:
    """One cell with every kind of measurement and its FP32 accuracy; a kind or `fp32` given as None is left out."""
    made: dict[str, Record | None] = {
        **{kind: record(kind, cell_) for kind in ("model", "accuracy", "counts", "latency")},
        "fp32": fp32_of(cell_),
    } | replaced
    fp32 = made.pop("fp32")
    own = [each for each in made.values() if each is not None]
    return [*([fp32] if fp32 else []), *own, asked(cell_, *own, fp32=fp32)]


def row(cell_: str | CellKey = CELL, folder: Path | None = None, **replaced: Record | None) -> Row:
    """One cell joined, as `lines` makes it."""
    return join(lines(cell_, **replaced), folder)[0]


def write_results(folder: Path, *content: Line) -> Path:
    """A results folder with these lines in `records.jsonl`; outcomes are written by `evaluated`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text("".join(line.model_dump_json() + "\n" for line in content))
    return folder

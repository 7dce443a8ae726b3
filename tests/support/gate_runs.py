"""Made runs for the gate: a baseline, and what a later run of the same cells ends with, one an outcome.

`RUNS[name]` is the baseline's cells, the later run's and the gate's exit code; both are called with their folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rows import CELL, HERE, OPERATIONS, SAMPLES, SIZE, asked, evaluated, form, fp32_of, record, write_results

from vitq.record import Line, Provenance

LATER = HERE.model_copy(update={"finished": "2026-02-02T03:04:05+00:00"})
THERE = LATER.model_copy(update={"machine": "machine-b", "cpu": "Another CPU", "packages": {"torch": "2.9.0"}})
MINMAX, PMQ, XNOR = (
    f"{name}/classification/digits/digits_vit/{bits}/seed0"
    for name, bits in (("minmax", "W8A8"), ("pmq", "W4A4"), ("binary_vit", "W1A1"))
)
RIGHT = np.arange(200) < 188
KERNEL = [4.0 + 0.01 * i for i in range(12)]


def cell(name: str, folder: Path, where: Provenance, right: Any = RIGHT, **records: Any) -> list[Line]:
    """A cell with outcomes, and what is given of other kinds; None leaves a kind out."""
    fp32 = evaluated(fp32_of(name, provenance=where), np.arange(200) < 195, folder)
    code = records.pop("code", "a")
    accuracy = record("accuracy", name, provenance=where, identity={"code": code})
    made = {
        "accuracy": evaluated(accuracy, right, folder, samples=records.pop("samples", SAMPLES)),
        "counts": record("counts", name, provenance=where),
        "latency": record("latency", name, provenance=where),
    } | records
    own = [each for each in made.values() if each is not None]
    return [fp32, *own, asked(name, *own, fp32=fp32, provenance=where)]


def kernel(where: Provenance, factor: float = 1.0) -> Any:
    forms = [form("fp32", [10.0] * 12), form("xnor:torch", [factor * each for each in KERNEL])]
    return record("latency", XNOR, provenance=where, latency=forms)


def failed(name: str, where: Provenance) -> Any:
    return record("accuracy", name, provenance=where, status="failed", identity={"code": "b"})


def all_cells(folder: Path) -> list[Line]:
    content = [*cell(CELL, folder, HERE), *cell(MINMAX, folder, HERE), *cell(PMQ, folder, HERE)]
    return [*content, *cell(XNOR, folder, HERE, latency=kernel(HERE))]


def baseline(folder: Path) -> Path:
    return write_results(folder, *all_cells(folder))


def one_cell(folder: Path) -> list[Line]:
    return cell(CELL, folder, HERE)


def two_cells(folder: Path) -> list[Line]:
    return [*one_cell(folder), *cell(MINMAX, folder, HERE)]


def one_kernel(folder: Path) -> list[Line]:
    return cell(XNOR, folder, HERE, latency=kernel(HERE))


def again(name: str = CELL, right: Any = RIGHT, **records: Any) -> Callable[[Path], list[Line]]:
    """That cell run again later, with these records."""
    return lambda folder: cell(name, folder, LATER, right, **records)


def both(*runs: Callable[[Path], list[Line]]) -> Callable[[Path], list[Line]]:
    return lambda folder: [line for run in runs for line in run(folder)]


def same(folder: Path) -> list[Line]:
    content = [*cell(CELL, folder, LATER), *cell(MINMAX, folder, LATER), *cell(PMQ, folder, LATER)]
    return [*content, *cell(XNOR, folder, LATER, latency=kernel(LATER))]


def regressed(folder: Path) -> list[Line]:
    one_more = record("counts", MINMAX, operations=OPERATIONS.model_copy(update={"bitops": 30_822_401}))
    return [
        *cell(CELL, folder, LATER, np.arange(200) < 180, code="b"),
        *cell(MINMAX, folder, LATER, counts=one_more, code="b"),
        *cell(PMQ, folder, LATER, accuracy=failed(PMQ, LATER)),
        *cell(XNOR, folder, LATER, latency=kernel(LATER, 1.2)),
    ]


def elsewhere(folder: Path) -> list[Line]:
    flipped = RIGHT.copy()
    flipped[[1, 2, 195]] = ~flipped[[1, 2, 195]]
    content = [*cell(CELL, folder, THERE, flipped), *cell(MINMAX, folder, THERE, np.arange(200) < 170)]
    return [*content, *cell(PMQ, folder, THERE), *cell(XNOR, folder, THERE, latency=kernel(THERE, 3.0))]


def limited(folder: Path) -> list[Line]:
    return [line for name in (CELL, MINMAX) for line in cell(f"{name}/limit100", folder, LATER)]


class Run(NamedTuple):
    """The cells of the baseline and of the later run, and what the gate exits with."""

    baseline: Callable[[Path], list[Line]]
    later: Callable[[Path], list[Line]]
    exit_code: int


SMALLER = record("counts", size=SIZE.model_copy(update={"packed_mb": 0.0079}))
MORE = record("counts", operations=OPERATIONS.model_copy(update={"macs": 1_926_401}))
WORSE = again(CELL, np.arange(200) < 180, code="b")
RUNS = {
    "same": Run(all_cells, same, 0),
    "better": Run(one_cell, again(CELL, np.arange(200) < 191, code="b"), 1),
    "worse": Run(one_cell, WORSE, 1),
    "size": Run(one_cell, again(counts=SMALLER), 1),
    "operations": Run(one_cell, again(counts=MORE), 1),
    "slower": Run(one_kernel, again(XNOR, latency=kernel(LATER, 1.2)), 1),
    "missing": Run(two_cells, again(), 1),
    "failed": Run(two_cells, both(again(), again(MINMAX, accuracy=failed(MINMAX, LATER))), 1),
    "new": Run(one_cell, both(again(), again(MINMAX)), 0),
    "regressed": Run(all_cells, regressed, 1),
    "elsewhere": Run(all_cells, elsewhere, 1),
    "limited": Run(all_cells, limited, 4),
}

"""Runs that change nothing but the last bits of sums, as another machine does, to measure how chaotic a cell is.

PyTorch and its libraries choose their kernels by the CPU; the variables below make them choose as on another. Each run
is a whole `vitq run`, calibration, generation and training included, since chaos enters there. The first changes most
and is run for every cell that was picked; the others only for those of which it flipped more than 1 in 50 samples: of
fewer the paired standard error that the gate allows anyway is larger than what they can move.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vitq.benchmarks.gate.spread import BASELINE, Spread
from vitq.benchmarks.run.store import read_rows
from vitq.errors import BadInputError
from vitq.paired import Paired, pair, side
from vitq.rows import Row

PERTURBATIONS: dict[str, dict[str, str]] = {
    "plain": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    "plain-blas": {"MKL_CBWR": "COMPATIBLE"},
    "plain-kernels": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "other-blas": {"MKL_CBWR": "SSE4_2"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
}
"""Variables of each run, by its name. On a machine whose own choice one of them is, it changes nothing and is left."""
FLIPPED = 0.02


class Run(NamedTuple):
    """Rows of a run that should agree with the baseline, and how it was made."""

    rows: list[Row]
    how: str


Runner = Callable[[str, str, Path, Mapping[str, str]], None]


def run_suite(suite: str, k: str, folder: Path, variables: Mapping[str, str]) -> None:
    """`vitq run` of the picked cells with these variables; resumes. Raises BadInputError where it cannot run at all."""
    words = [sys.executable, "-c", "from vitq.benchmarks.cli import main; main()", "run", suite, "-k", k]
    code = subprocess.run([*words, "--results", str(folder)], env={**os.environ, **variables}).returncode
    if code not in (0, 3):
        raise BadInputError(f"the perturbed run in {folder} ended with code {code}: see what it printed")


def perturbed_runs(
    suite: str, baseline: Sequence[Row], work: Path, most: int, run: Runner = run_suite
) -> dict[str, Run]:
    """Up to `most` runs of the baseline's finished cells, kept in `work`; those that changed no bit are left out."""
    cells = [row for row in baseline if row.status == "done" and row.metrics]
    made: dict[str, Run] = {}
    for name, variables in PERTURBATIONS.items():
        if len(made) == most or not cells:
            break
        run(suite, " or ".join(row.cell.id for row in cells), work / name, variables)
        found = Run(read_rows(work / name), " ".join(f"{key}={value}" for key, value in variables.items()))
        if not has_effect(cells, found.rows):
            continue
        made[name] = found
        if len(made) == 1:
            cells = [row for row in cells if flips(row, found.rows) > FLIPPED]
    if most and not made:
        raise BadInputError("no perturbation changed a bit on this machine: the spread cannot be measured here")
    return made


def has_effect(baseline: Sequence[Row], rows: Sequence[Row]) -> bool:
    """Whether the outputs of any cell differ in a bit."""
    after = {row.cell.id: row.output_sha256 for row in rows}
    return any(after.get(row.cell.id, row.output_sha256) != row.output_sha256 for row in baseline)


def flips(row: Row, rows: Sequence[Row]) -> float:
    """Largest share of samples whose outcome changed, over metrics; 1 where the cell failed or cannot be paired."""
    other = next((each for each in rows if each.cell.id == row.cell.id), None)
    if other is None:
        return 1.0
    found = [pair(side(row), side(other), metric) for metric in row.metrics]
    return max((p.changed / p.n if isinstance(p, Paired) else 1.0 for p in found), default=1.0)


def measured_spread(baseline: Sequence[Row], runs: Mapping[str, Run]) -> Spread:
    """The accuracy of every cell in every run that measured it on the same samples."""
    cells: dict[str, dict[str, dict[str, float]]] = {}
    for row in baseline:
        for metric, own in row.metrics.items():
            values = {name: value for name, run in runs.items() if (value := _value(row, run.rows, metric)) is not None}
            if values:
                cells.setdefault(row.cell.id, {})[metric] = {BASELINE: own.value, **values}
    return Spread(runs={BASELINE: "as it is", **{name: run.how for name, run in runs.items()}}, cells=cells)


def _value(row: Row, rows: Sequence[Row], metric: str) -> float | None:
    other = next((each for each in rows if each.cell.id == row.cell.id and metric in each.metrics), None)
    if other is None or not isinstance(pair(side(row), side(other), metric), Paired):
        return None
    return other.metrics[metric].value

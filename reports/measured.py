"""What a run measured of a figure's metric, in the figure's unit; or one line that says why it did not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from vitq.record import LatencyRow
from vitq.reports.figure import GAIN, Figure
from vitq.rows import Row

FAKE_QUANT = "fake-quant"
FLOATS = ("fp32", "bf16", FAKE_QUANT)
"""Kinds of execution that compute in floating point: none of them is a quantized model's speed."""


class Measured(NamedTuple):
    """A value with its standard error, over seeds where there are several, else over samples."""

    value: float
    stderr: float | None


def over_seeds(values: Sequence[float]) -> Measured:
    """Mean and standard error of the mean, s / sqrt(k) with the sample deviation s; None for a single seed."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Measured(statistics.fmean(values), error)


def value_of(figure: Figure, run: Sequence[Row], runs: Sequence[Sequence[Row]]) -> Measured | str:
    """The run's value of the figure's metric; `runs` are needed for a gain over another row."""
    if figure.metric == GAIN:
        return _gain(figure, run, runs)
    if figure.counted:
        return _counted(figure, run[0])
    if figure.metric in ("latency_ms", "speedup"):
        return _timed(figure, run[0])
    metrics = [record.metrics[figure.metric] for record in run if figure.metric in record.metrics]
    if not metrics:
        return f"the record has no {figure.metric}"
    return (
        Measured(metrics[0].value, metrics[0].stderr) if len(metrics) == 1 else over_seeds([m.value for m in metrics])
    )


def _counted(figure: Figure, record: Row) -> Measured | str:
    size, operations = record.size, record.operations
    if figure.metric == "params_m" and size is not None:
        return Measured(size.params / 1e6, None)
    if figure.metric == "macs_g" and operations is not None:
        return Measured(operations.macs / 1e9, None)
    conventions = {**(size.conventions if size else {}), **(operations.conventions if operations else {})}
    if figure.convention in conventions:
        return Measured(conventions[figure.convention], None)
    return f"the record has no {figure.metric}" + (f" counted as {figure.convention}" if figure.convention else "")


def _timed(figure: Figure, record: Row) -> Measured | str:
    """Only a real kernel of the figure's runtime at its batch counts; fake-quant times are no latency of a method."""
    runtime, batch = str(figure.settings.get("runtime", "")), figure.settings.get("batch")
    kernels = [r for r in record.latency if _kernel(r, runtime) and r.batch == batch]
    if not kernels:
        return f"no {runtime} kernel was timed at batch {batch}"
    if figure.metric == "latency_ms":
        return Measured(kernels[0].median_ms, None)
    floats = [r for r in record.latency if r.exec == "fp32" and r.place == kernels[0].place]
    return Measured(floats[0].median_ms / kernels[0].median_ms, None) if floats else "no FP32 time beside the kernel's"


def _kernel(row: LatencyRow, runtime: str) -> bool:
    kind, _, kernel = row.exec.partition(":")
    return kind not in FLOATS and runtime in kernel


def _gain(figure: Figure, run: Sequence[Row], runs: Sequence[Sequence[Row]]) -> Measured | str:
    """Mean over seeds of top1 less that of the row with all of the figure's options off, seed by seed."""
    cell = run[0].cell
    off = {**cell.options, **dict.fromkeys(figure.options, False)}
    same = {"options", "id", "seed", "variant"}
    wanted = cell.model_dump(exclude=same)
    for other in runs:
        if other[0].cell.options == off and other[0].cell.model_dump(exclude=same) == wanted:
            base = {r.cell.seed: r.metrics["top1"].value for r in other if "top1" in r.metrics}
            gains = [
                r.metrics["top1"].value - base[r.cell.seed] for r in run if "top1" in r.metrics and r.cell.seed in base
            ]
            if gains:
                return over_seeds(gains)
    return "its own baseline was not run with the same seeds"

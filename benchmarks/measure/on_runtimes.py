"""A stored quantized model's forms timed in turn, and the table of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vitq.benchmarks.measure.around import watched
from vitq.benchmarks.measure.forms import EAGER, Form
from vitq.benchmarks.measure.noise_floor import NOISE
from vitq.benchmarks.measure.timing import time_in_turn
from vitq.errors import UnsupportedError
from vitq.record import LatencyAround, LatencyRow


@dataclass
class Timed:
    """Rows of one batch size, the forms they are of, and what has no row, with the reason."""

    rows: list[LatencyRow]
    forms: dict[str, Form]
    left_out: dict[str, Exception]
    around: LatencyAround

    def strongest(self) -> LatencyRow:
        """The fastest FP32 form that was measured: what a speed-up is stated against."""
        return min((row for row in self.rows if row.exec.startswith("fp32")), key=lambda row: row.median_ms)

    def eager(self) -> LatencyRow:
        """Eager torch in FP32."""
        return next(row for row in self.rows if row.exec == EAGER)


def measure(
    forms: Mapping[str, Form],
    left_out: Mapping[str, Exception],
    example: Tensor,
    *,
    threads: int,
    runs: int,
    warmup: int,
    device: torch.device | str = "cpu",
) -> Timed:
    """Time forms in turn on an example batch; see `time_in_turn`."""
    calls = {name: form.run for name, form in forms.items()}
    with watched(threads) as session:
        rows = time_in_turn(
            calls, example, batch=len(example), runs=runs, warmup=warmup, threads=threads, device=device
        )
    rows = [forms[row.exec].described(row) for row in rows]
    return Timed(rows, dict(forms), dict(left_out), session.found)


def table_rows(timed: Timed) -> list[dict[str, str]]:
    """The rows of a table: milliseconds a batch, and how many times as fast as both FP32 baselines."""
    strongest, eager = timed.strongest(), timed.eager()
    rows = [_row(row, timed, strongest, eager) for row in timed.rows]
    return rows + [{"exec": f"none on {name}", "checked": told(why)} for name, why in timed.left_out.items()]


def told(why: Exception) -> str:
    """Why there is no row, in one line: a reason, or that a runtime failed."""
    line = " ".join(str(why).split())
    return line if isinstance(why, UnsupportedError) else f"failed: {type(why).__name__}: {line}"


def around_text(around: LatencyAround) -> str:
    """What else the machine did, in a line."""
    load = "unknown" if around.load_before is None else f"{around.load_before:.2f}"
    held = "no" if around.affinity is None else ", ".join(map(str, around.affinity))
    clock = "" if around.mhz_after is None else f", {around.mhz_after:.0f} MHz"
    said = (
        f"other work took {around.other_cores or 0:.2f} cores; load before {load}, {around.switches or 0} involuntary "
        f"switches, cores {held}{clock}"
    )
    return said + ("; other work disturbed these times" if around.disturbed else "")


def _row(row: LatencyRow, timed: Timed, strongest: LatencyRow, eager: LatencyRow) -> dict[str, str]:
    form = timed.forms[row.exec]
    quarters = statistics.quantiles(row.samples_ms, n=4) if len(row.samples_ms) > 1 else [row.median_ms] * 3
    own = row.exec == form.reference
    return {
        "exec": row.exec,
        "batch": str(row.batch),
        "threads": str(row.threads),
        "median ms": f"{row.median_ms:.1f}",
        "p90 ms": f"{row.p90_ms:.1f}",
        "quartiles ms": f"{quarters[0]:.1f} to {quarters[2]:.1f}",
        "call MB": "" if row.memory_mb is None else f"{row.memory_mb:.1f}",
        "x best fp32": f"{_ratio(strongest, row):.2f}",
        "x eager fp32": f"{_ratio(eager, row):.2f}",
        "checked": "the reference itself" if own else nearness_of(form),
        "operators": operators_of(form),
    }


def operators_of(form: Form) -> str:
    """How many operators ran at which width, in words."""
    kinds = ((kind, " + ".join(f"{n} {width}" for width, n in found.items())) for kind, found in form.operators.items())
    return "; ".join(f"{kind} {widths}" for kind, widths in kinds)


def nearness_of(form: Form) -> str:
    """How near a form is to its reference."""
    if form.difference == 0:
        return f"equals {form.reference} bit for bit"
    if form.near is None:
        return f"equals {form.reference} to {form.difference:.1e} of the largest output"
    return f"{form.reference} within {form.near}; itself under noise of {NOISE:.0e}: {form.floor}"


def _ratio(baseline: LatencyRow, row: LatencyRow) -> float:
    """The median of baseline over row, round by round."""
    return statistics.median(b / own for b, own in zip(baseline.samples_ms, row.samples_ms, strict=True))

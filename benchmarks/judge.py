"""How two finished records of one cell are judged: accuracy both ways, size and operations exactly, latency by rank.

Accuracy: on the same machine with the same versions the difference may not exceed the tolerance. Elsewhere arithmetic
differs: it may also be up to 2 standard errors of the paired difference, where both records hold the outcome of every
sample; where they do not, the tolerance alone decides. FP32 accuracy is judged by the tolerance.
Latency: compared on the same machine alone, for the same form, batch, threads and device. Slower means that the
two-sided Mann-Whitney test rejects at `alpha` and the median grew by more than the factor `slowdown`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import mannwhitneyu

from vitq.benchmarks.paired import paired_stderr
from vitq.benchmarks.record import LatencyRow, Metric, Operations, Record, Size
from vitq.errors import BadInputError

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Policy:
    """What may differ: accuracy in points, standard errors across machines, alpha and median ratio of a slowdown."""

    tolerance: float = 0.0
    stderrs: float = 2.0
    alpha: float = 0.01
    slowdown: float = 1.1

    def __post_init__(self) -> None:
        numbers = (self.tolerance, self.stderrs, self.alpha, self.slowdown)
        if not all(math.isfinite(n) and n >= 0 for n in numbers) or self.slowdown < 1 or not 0 < self.alpha < 1:
            raise BadInputError(
                "the gate needs a tolerance and standard errors of 0 or more, an alpha between 0 and 1 and a slowdown "
                "of 1 or more"
            )


class GateRow(NamedTuple):
    """One judgement: the cell, the quantity, both values, how much they may differ, the verdict and why."""

    cell: str
    quantity: str
    baseline: str
    current: str
    allowed: str
    verdict: str
    note: str = ""


def judge(old: Record, new: Record, policy: Policy) -> Iterator[GateRow]:
    """A row for every quantity of the old record; what the new one has besides is not judged."""
    cell = old.cell.id
    for name, metric in old.metrics.items():
        yield _accuracy(cell, name, metric, new.metrics.get(name), *_allowed(old, new, name, policy))
    for name, metric in old.fp32.items():
        yield _accuracy(cell, f"fp32 {name}", metric, new.fp32.get(name), policy.tolerance, "")
    for part in ("size", "operations"):
        yield from _exact(cell, part, getattr(old, part), getattr(new, part))
    yield from _latency(old, new, policy)


def _same_place(old: Record, new: Record) -> bool:
    """Same machine, Python and package versions: results should agree to the last bit."""
    left, right = old.provenance, new.provenance
    return (left.machine, left.python, left.packages) == (right.machine, right.python, right.packages)


def _allowed(old: Record, new: Record, metric: str, policy: Policy) -> tuple[float, str]:
    """How many points the metric may differ either way, and why."""
    if _same_place(old, new):
        return policy.tolerance, ""
    stderr = paired_stderr(old, new, metric) if metric in new.metrics else None
    if stderr is None:
        return policy.tolerance, "other machine or versions; outcomes of the samples not recorded"
    spread = policy.stderrs * stderr
    return max(
        policy.tolerance, spread
    ), f"other machine or versions; {policy.stderrs:g} paired stderr are {spread:.3f}"


def _accuracy(cell: str, name: str, old: Metric, new: Metric | None, allowed: float, note: str) -> GateRow:
    if new is None:
        return GateRow(cell, name, _points(old.value), "absent", "", "missing")
    row = GateRow(cell, name, _points(old.value), _points(new.value), f"±{allowed:.3f}", "same", note)
    if not (math.isfinite(old.value) and math.isfinite(new.value)):
        return row._replace(verdict="not-a-number")
    if old.n != new.n:
        return row._replace(verdict="not-comparable", note=f"{old.n} samples against {new.n}")
    difference = new.value - old.value
    if abs(difference) <= allowed + _ROUNDING:
        return row
    return row._replace(verdict="worse" if difference < 0 else "better")


def _points(value: float) -> str:
    return f"{value:.3f}"


def _exact(cell: str, part: str, old: Size | Operations | None, new: Size | Operations | None) -> Iterator[GateRow]:
    """Every number of the baseline's size or operations must be there and equal."""
    before = {} if old is None else _flat(old)
    after = {} if new is None else _flat(new)
    for name, value in before.items():
        found = after.get(name)
        row = GateRow(cell, f"{part} {name}", f"{value:.12g}", "absent", "0", "missing")
        if found is not None:
            row = row._replace(current=f"{found:.12g}", verdict="same" if found == value else "changed")
        yield row


def _flat(numbers: Size | Operations) -> dict[str, float]:
    return {name: n for name, n in numbers if name != "conventions"} | numbers.conventions


def _latency(old: Record, new: Record, policy: Policy) -> Iterator[GateRow]:
    cell = old.cell.id
    if not old.latency:
        return
    if old.provenance.machine != new.provenance.machine or not old.provenance.machine:
        yield GateRow(cell, "latency", "", "", "", "not-compared", "other machine")
        return
    found = {_form(row): row for row in new.latency}
    for before in old.latency:
        yield _speed(cell, before, found.get(_form(before)), policy)


def _form(row: LatencyRow) -> tuple[str, int, int, str]:
    return row.exec, row.batch, row.threads, row.device


def _speed(cell: str, old: LatencyRow, new: LatencyRow | None, policy: Policy) -> GateRow:
    """Medians in ms; with too few samples for the test ever to reach alpha, the ratio of the medians decides alone."""
    name = f"{old.exec}, batch {old.batch}, {old.threads} threads, {old.device}"
    row = GateRow(cell, name, f"{old.median_ms:.3f} ms", "absent", f"x{policy.slowdown:g}", "missing")
    if new is None:
        return row
    row = row._replace(current=f"{new.median_ms:.3f} ms", verdict="same")
    samples = (*old.samples_ms, *new.samples_ms, old.median_ms, new.median_ms)
    if not old.samples_ms or not new.samples_ms or not all(math.isfinite(s) and s > 0 for s in samples):
        return row._replace(verdict="not-a-number")
    ratio = new.median_ms / old.median_ms
    p = float(mannwhitneyu(old.samples_ms, new.samples_ms, alternative="two-sided").pvalue)
    smallest = 2 / math.comb(len(old.samples_ms) + len(new.samples_ms), len(old.samples_ms))
    significant = p < policy.alpha or smallest >= policy.alpha
    row = row._replace(note=f"x{ratio:.2f}, p = {p:.2g}")
    if significant and ratio > policy.slowdown:
        return row._replace(verdict="slower")
    return row._replace(verdict="faster") if significant and ratio < 1 / policy.slowdown else row

"""Accuracy: how far it may differ, and why.

In the same place, which is machine, device, versions, threads and settings of arithmetic, arithmetic is the same, and
the tolerance alone counts. Elsewhere some samples flip, and a chaotic recipe lands elsewhere altogether, so that the
difference d may also be k = `stderrs` standard errors: with se that of the paired difference and sigma the deviation of
the difference of two runs of unchanged code, measured on n runs (`spread`),

    |d| <= max(tolerance, sqrt((k * se)^2 + (t * sigma)^2))

where t is the quantile of Student's t with n - 1 degrees of freedom that is as rare as k is of a normal distribution: a
deviation known from 5 runs is itself uncertain, and k = 3 becomes 6.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vitq.benchmarks.gate.origin import moved
from vitq.benchmarks.gate.policy import GateRow, Policy
from vitq.benchmarks.gate.spread import Spread
from vitq.paired import Paired, pair, side
from vitq.record import Metric
from vitq.rows import Row

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Pair:
    """One model in both runs: the cell's own, or the FP32 model beside it."""

    old: Row
    new: Row
    fp32: bool = False

    @property
    def name(self) -> str:
        """The cell's id; FP32 is shared by all cells of a model and data set, and has one name for them."""
        cell = self.old.cell
        rest = f"/limit{cell.limit}" if cell.limit else ""
        return f"FP32/{cell.task}/{cell.dataset}/{cell.model}{rest}" if self.fp32 else cell.id

    def metrics(self, row: Row) -> dict[str, Metric]:
        """The metrics of one side."""
        return row.fp32 if self.fp32 else row.metrics

    def paired(self, metric: str) -> Paired | str:
        """The paired difference of a metric, or why there is none."""
        return pair(side(self.old, fp32=self.fp32), side(self.new, fp32=self.fp32), metric)


def judge_accuracy(old: Row, new: Row, policy: Policy, spread: Spread | None) -> list[GateRow]:
    """A row a metric of the old row and of the FP32 model beside it."""
    pairs = (Pair(old, new), Pair(old, new, fp32=True))
    return [_judge(models, metric, policy, spread) for models in pairs for metric in models.metrics(old)]


def _judge(models: Pair, metric: str, policy: Policy, spread: Spread | None) -> GateRow:
    old, new = models.metrics(models.old)[metric], models.metrics(models.new).get(metric)
    row = GateRow(models.name, metric, f"{old.value:.3f}", "absent", "", "missing")
    if new is None:
        return row
    row = row._replace(current=f"{new.value:.3f}")
    if not (math.isfinite(old.value) and math.isfinite(new.value)):
        return row._replace(verdict="not-a-number")
    if old.n != new.n:
        return row._replace(verdict="not-comparable", note=f"{old.n} samples against {new.n}")
    paired = models.paired(metric)
    if paired == "not the same samples":
        return row._replace(verdict="not-comparable", note=paired)
    allowed, note = _allowed(models, metric, paired, policy, spread)
    verdict = _verdict(new.value - old.value, allowed)
    return row._replace(allowed=f"±{allowed:.3f}", verdict=verdict, note=note)


def _verdict(difference: float, allowed: float) -> str:
    if difference == 0:
        return "same"
    if abs(difference) <= allowed + _ROUNDING:
        return "within"
    return "worse" if difference < 0 else "better"


def _allowed(
    models: Pair, metric: str, paired: Paired | str, policy: Policy, spread: Spread | None
) -> tuple[float, str]:
    """How many points the metric may differ either way, and why."""
    if not moved(models.old.provenance, models.new.provenance):
        return policy.of_metric(metric), str(paired) if isinstance(paired, Paired) else ""
    measured = None if spread is None or models.fp32 else spread.of(models.old.cell.id, metric)
    sigma, runs = measured or (0.0, 0)
    stderr = paired.stderr if isinstance(paired, Paired) else 0.0
    chaotic = _as_rare(policy.stderrs, runs) * sigma if measured else 0.0
    allowed = max(policy.of_metric(metric), math.hypot(policy.stderrs * stderr, chaotic))
    told = str(paired) if isinstance(paired, Paired) else f"not paired: {paired}"
    chaos = f"spread of {runs} runs {sigma:.3f}" if measured else "spread not measured"
    return allowed, f"elsewhere; {told}; {chaos}"


def _as_rare(stderrs: float, runs: int) -> float:
    """The quantile of Student's t for a deviation of that many runs, as rare as so many normal standard errors."""
    from scipy.stats import norm, t  # takes longer to import than a table of a thousand cells to print

    return float(t.isf(norm.sf(stderrs), runs - 1))

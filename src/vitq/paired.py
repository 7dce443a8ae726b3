"""Two runs on the same samples, compared sample by sample: the difference, its standard error and its p.

Where every sample's outcome is known in both, most of the sampling error cancels: what is right or wrong in both says
nothing of the difference. With d_i in {-1, 0, 1} the difference on sample i, the standard error is the deviation of d
over sqrt(n). McNemar's test asks whether the samples that changed did so as often one way as the other: under the null
hypothesis the gains are binomial with probability 1/2 (McNemar 1947; exact form by `scipy.stats.binomtest`).

AP and mIoU are no means over samples. There both runs are computed on the same resamples of the images; the standard
error is the deviation of the difference of the two, and p is that of a normal distribution of this deviation.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitq import outcomes
from vitq.errors import BadInputError
from vitq.outcomes import Matches, Outcome, Overlaps, Right, deviation, two_sided
from vitq.record import Metric
from vitq.rows import Row


class Paired(NamedTuple):
    """right - left on n samples: difference and standard error in points, and how many samples changed each way.

    Of a metric that is no share of the samples none is gained or lost; `other` samples have other outcomes.
    """

    difference: float
    stderr: float
    n: int
    gained: int | None = None
    lost: int | None = None
    other: int = 0

    @property
    def changed(self) -> int:
        """How many samples have other outcomes."""
        return self.other if self.gained is None or self.lost is None else self.gained + self.lost

    @property
    def p(self) -> float:
        """McNemar's exact two-sided p; of resampled metrics, that of a normal distribution."""
        if self.gained is None or self.lost is None:
            return two_sided(self.difference, self.stderr)
        from scipy.stats import binomtest  # takes longer to import than a table of a thousand cells to print

        moved = self.gained + self.lost
        return float(binomtest(self.gained, moved).pvalue) if moved else 1.0

    def __str__(self) -> str:
        moved = f"{self.other} changed" if self.gained is None else f"{self.gained} gained, {self.lost} lost"
        return f"paired {self.difference:+.3f} ± {self.stderr:.3f}, p = {self.p:.2g} ({moved})"


class Side(NamedTuple):
    """One run of a comparison: its metrics, and the file of its outcomes within a results folder."""

    metrics: dict[str, Metric]
    outcomes: str | None
    folder: Path | None


def side(row: Row, *, fp32: bool = False) -> Side:
    """A row as one side of a comparison, or the FP32 model beside it."""
    return Side(row.fp32, row.fp32_outcomes, row.folder) if fp32 else Side(row.metrics, row.outcomes, row.folder)


def compare(left: Row, right: Row, metric: str) -> Paired | None:
    """right - left of a metric; None where they cannot be paired, and `why_not` says why.

    Raises BadInputError where a file of outcomes is broken, or is not that of its record.
    """
    found = pair(side(left), side(right), metric)
    return found if isinstance(found, Paired) else None


def against_fp32(row: Row, metric: str) -> Paired | None:
    """What quantization changed: row - FP32 on the same samples; None, and raises, as `compare` does."""
    found = pair(side(row, fp32=True), side(row), metric)
    return found if isinstance(found, Paired) else None


def why_not(left: Row, right: Row, metric: str) -> str:
    """Why two rows are not paired; empty where they are."""
    found = pair(side(left), side(right), metric)
    return found if isinstance(found, str) else ""


def pair(left: Side, right: Side, metric: str) -> Paired | str:
    """right - left of two sides, or why there is none."""
    before, after = _read(left, metric), _read(right, metric)
    if isinstance(before, str) or isinstance(after, str):
        return before if isinstance(before, str) else str(after)
    if before.samples != after.samples:
        return "not the same samples"
    return paired(before.of[metric], after.of[metric], metric)


def _read(run: Side, metric: str) -> outcomes.Outcomes | str:
    if run.outcomes is None or run.folder is None or metric not in run.metrics:
        return "outcomes of the samples not recorded"
    path = run.folder / run.outcomes
    if not path.resolve().is_relative_to(run.folder.resolve()):
        raise BadInputError(f"a record in {run.folder} names outcomes outside its folder: {run.outcomes!r}")
    if not path.exists():
        return "the file of outcomes is missing"
    found = outcomes.read(path, run.metrics)
    return found if metric in found.of else f"no outcomes of {metric}"


def paired(before: Outcome, after: Outcome, metric: str) -> Paired | str:
    """after - before of a metric, from outcomes of the same samples in the same order; or why there is none."""
    if before.n != after.n:
        return f"{before.n} samples against {after.n}"
    if before.n < 2:
        return "one sample has no standard error"
    if isinstance(before, Right) and isinstance(after, Right):
        return _samples(before.values, after.values)
    if isinstance(before, Matches) and isinstance(after, Matches):
        return _resampled(before, after, metric, before.changed(after))
    if isinstance(before, Overlaps) and isinstance(after, Overlaps):
        return _resampled(before, after, metric, before.changed(after))
    return "outcomes of different kinds"


def _resampled(before: outcomes.Resampled, after: outcomes.Resampled, metric: str, changed: int) -> Paired | str:
    old, new = before.value(metric), after.value(metric)
    stderr = deviation(after.resampled(metric) - before.resampled(metric))
    if old is None or new is None or stderr is None:
        return f"no {metric} on most of the resampled images"
    return Paired(new - old, stderr, before.n, other=changed)


def _samples(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Paired:
    n = len(before)
    gained, lost = int(np.sum(after & ~before)), int(np.sum(before & ~after))
    differences = after.astype(float) - before.astype(float)
    stderr = float(100 * np.std(differences, ddof=1) / np.sqrt(n))
    return Paired(100 * (gained - lost) / n, stderr, n, gained, lost)

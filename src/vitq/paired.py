"""Two runs on the same samples, compared sample by sample: the difference, its standard error and McNemar's exact p.

Where every sample's outcome is known in both, most of the sampling error cancels: what is right or wrong in both says
nothing of the difference. With d_i in {-1, 0, 1} the difference on sample i, the standard error is the deviation of d
over sqrt(n). McNemar's test asks whether the samples that changed did so as often one way as the other: under the null
hypothesis the gains are binomial with probability 1/2 (McNemar 1947; exact form by `scipy.stats.binomtest`).

AP and mIoU are no means of samples. There both runs are resampled alike (`dense_outcomes`): the standard error is the
deviation of the difference over resamples, p is that of a normal distribution of this deviation.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitq import dense_outcomes, outcomes
from vitq.errors import BadInputError
from vitq.record import Metric
from vitq.rows import Row


class Paired(NamedTuple):
    """right - left on n samples: difference and standard error in points, and how many samples changed each way.

    Where `resampled`, the standard error is the bootstrap's, and `gained` is how many samples changed in any way.
    """

    difference: float
    stderr: float
    n: int
    gained: int
    lost: int
    resampled: bool = False

    @property
    def p(self) -> float:
        """McNemar's exact two-sided p, or that of a normal distribution where the samples were resampled."""
        if self.resampled:
            return math.erfc(abs(self.difference) / self.stderr / math.sqrt(2)) if self.stderr else 1.0
        from scipy.stats import binomtest  # takes longer to import than a table of a thousand cells to print

        moved = self.gained + self.lost
        return float(binomtest(self.gained, moved).pvalue) if moved else 1.0

    def __str__(self) -> str:
        moved = f"{self.gained} gained, {self.lost} lost"
        if self.resampled:
            moved = f"{self.gained} of {self.n} samples changed, {dense_outcomes.RESAMPLES} resamples"
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
    if metric in before.dense and metric in after.dense:
        return _resampled(before.dense[metric], after.dense[metric], metric)
    return _paired(before.right[metric], after.right[metric])


def _read(run: Side, metric: str) -> outcomes.Outcomes | str:
    if run.outcomes is None or run.folder is None or metric not in run.metrics:
        return "outcomes of the samples not recorded"
    path = run.folder / run.outcomes
    if not path.resolve().is_relative_to(run.folder.resolve()):
        raise BadInputError(f"a record in {run.folder} names outcomes outside its folder: {run.outcomes!r}")
    if not path.exists():
        return "the file of outcomes is missing"
    found = outcomes.read(path, run.metrics)
    return found if metric in found.right or metric in found.dense else f"no outcomes of {metric}"


def _resampled(before: dense_outcomes.Dense, after: dense_outcomes.Dense, metric: str) -> Paired | str:
    if before.n < 2:
        return "one sample has no standard error"
    differences = dense_outcomes.resampled(after, metric) - dense_outcomes.resampled(before, metric)
    difference = dense_outcomes.value(after, metric) - dense_outcomes.value(before, metric)
    stderr = float(np.nanstd(differences, ddof=1))
    return Paired(difference, stderr, before.n, dense_outcomes.changed(before, after), 0, resampled=True)


def _paired(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Paired | str:
    n = len(before)
    if n != len(after):
        return f"{n} samples against {len(after)}"
    if n < 2:
        return "one sample has no standard error"
    gained, lost = int(np.sum(after & ~before)), int(np.sum(before & ~after))
    differences = after.astype(float) - before.astype(float)
    stderr = float(100 * np.std(differences, ddof=1) / np.sqrt(n))
    return Paired(100 * (gained - lost) / n, stderr, n, gained, lost)

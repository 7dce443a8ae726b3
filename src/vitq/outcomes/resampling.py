"""The bootstrap over images: how far a metric that is no mean over samples would move on other images.

n images are drawn from the n with replacement, the metric is computed on what was drawn, and the deviation of many such
values is its standard error (Efron, "Bootstrap methods: another look at the jackknife", 1979). The draws follow from n
alone, so that two runs on the same images are resampled alike, and their difference too has a standard error.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 200
_SEED = 0

Floats = NDArray[np.float64]
Weights = NDArray[np.int32]


def resamples(n: int) -> Weights:
    """How often each of n images was drawn, [RESAMPLES, n]; the same in every call."""
    generator = np.random.default_rng(_SEED)
    drawn = generator.integers(0, n, (RESAMPLES, n))
    return np.stack([np.bincount(each, minlength=n) for each in drawn]).astype(np.int32)


def deviation(values: Floats) -> float | None:
    """Standard deviation of the resampled values that there are (NaN: a resample without truth); None of under two."""
    known = values[np.isfinite(values)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def two_sided(difference: float, stderr: float) -> float:
    """The p of a difference whose resamples deviate by `stderr`, by the normal distribution."""
    if difference == 0:
        return 1.0
    return math.erfc(abs(difference) / stderr / math.sqrt(2)) if stderr > 0 else 0.0

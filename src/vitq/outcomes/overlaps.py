"""Pixels of each image and class that mIoU is made of: what both call so, what is called so, what truly is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitq.outcomes.resampling import Floats, Weights, resamples

METRICS = ("miou", "aacc", "macc")
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pixels by image and class, each [n, classes]; pixels without a true class count in none of them."""

    intersection: Counts
    predicted: Counts
    truth: Counts

    def __post_init__(self) -> None:
        shapes = {self.intersection.shape, self.predicted.shape, self.truth.shape}
        if len(shapes) != 1 or self.intersection.ndim != 2:
            raise ValueError(f"pixel counts of several shapes: {sorted(shapes)}")
        if (self.intersection < 0).any() or (self.intersection > np.minimum(self.predicted, self.truth)).any():
            raise ValueError("an intersection is larger than what it is of")

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.truth)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that can be computed, but for those without any truth."""
        return METRICS

    def value(self, metric: str, images: Sequence[int] | None = None) -> float | None:
        """A metric in percent, on all images or a multiset of their indices; None where no pixel has a true class."""
        picked = np.arange(self.n) if images is None else np.asarray(images, dtype=np.int64)
        value = float(self.weighted(metric, np.bincount(picked, minlength=self.n).astype(np.int32)[None])[0])
        return value if np.isfinite(value) else None

    def resampled(self, metric: str) -> Floats:
        """The metric in percent on every resample of the images, NaN where it has no value."""
        return self.weighted(metric, resamples(self.n))

    def weighted(self, metric: str, weights: Weights) -> Floats:
        """The metric in percent with each image counted `weights` [b, n] times, [b].

        As mmseg's IoUMetric has it: miou is the mean of intersection over union over the classes that were predicted or
        are there, macc that of intersection over truth over the classes that are there, aacc the share of all pixels.
        """
        both, called, there = (
            weights.astype(np.int64) @ each for each in (self.intersection, self.predicted, self.truth)
        )
        if metric == "aacc":
            return _shares(both.sum(axis=1, keepdims=True), there.sum(axis=1, keepdims=True))
        if metric == "macc":
            return _shares(both, there)
        if metric == "miou":
            return _shares(both, called + there - both)
        raise KeyError(f"pixels say nothing of {metric}")

    def changed(self, other: Overlaps) -> int:
        """Number of images whose counts differ."""
        pairs = ((self.intersection, other.intersection), (self.predicted, other.predicted))
        return int(np.any([(a != b).any(axis=1) for a, b in pairs], axis=0).sum())

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a file holds."""
        return {"intersection": self.intersection, "predicted": self.predicted, "truth": self.truth}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Overlaps:
        """From what a file holds; KeyError, TypeError or ValueError where it holds something else."""
        return cls(*(arrays[name].astype(np.int64, casting="safe") for name in ("intersection", "predicted", "truth")))


def _shares(part: Counts, whole: Counts) -> Floats:
    """The mean over classes of part / whole in percent, over those whose whole is not empty; NaN where all are."""
    held = whole > 0
    shares = np.divide(part, whole, out=np.zeros(part.shape), where=held)
    n = held.sum(axis=1)
    return np.where(n > 0, 100 * shares.sum(axis=1) / np.maximum(n, 1), np.nan)

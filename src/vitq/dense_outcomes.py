"""What detection's and segmentation's metrics are made of, image by image, so that they can be had of any resample.

`Matches` holds what COCO's AP needs of every image, `Overlaps` what mIoU needs. `value(metric, weights)` is the metric
in percent of a multiset of the images: `weights` [n] says how often each is in it. The standard error is the
bootstrap's over images (Efron 1979): the deviation of the metric over resamples drawn with replacement, always the same
ones for the same number of images, so that two models are compared on the same resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

RESAMPLES, SEED = 200, 0
AREAS = ("", "_s", "_m", "_l")
"""All objects, then those of less than 32^2, of 32^2 to 96^2, and of more pixels."""
THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""Intersection over union from which a detection is right."""
RECALLS = np.linspace(0.0, 1.0, 101)
Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


class Dense(Protocol):
    """Either kind."""

    n: int

    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that can be had of it."""

    def values(self, metric: str, weights: Whole) -> Floats:
        """The metric in percent of each resample; `weights` [resamples, n]. NaN where a resample has no truth."""


@dataclass(frozen=True)
class Matches:
    """What was found in n images and whether it is right, of boxes (`kind` box) or masks (`mask`).

    A row a detection, of D, at most 100 an image and category, each category's by falling score: `image` and `category`
    [D], `score` [D], and at each of 4 ranges of area and 10 thresholds whether it is `right` and whether it is `ignored`
    [4, 10, D]. `truth` [4, n, categories] counts what there is to be found.
    """

    kind: str
    image: NDArray[np.int32]
    category: NDArray[np.int32]
    score: NDArray[np.float64]
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    truth: NDArray[np.int32]

    @property
    def n(self) -> int:
        """Number of images."""
        return int(self.truth.shape[1])

    def metrics(self) -> tuple[str, ...]:
        """AP, AP50, AP75, and AP by area where anything of that area is to be found."""
        there = [area for area, count in zip(AREAS, self.truth.sum((1, 2)), strict=True) if count]
        every = ["", "50", "75", *there[1:]] if there else []
        return tuple(f"{self.kind}_ap{rest}" for rest in every)

    def values(self, metric: str, weights: Whole) -> Floats:
        """AP in percent of each resample [R]: the mean over categories with truth, thresholds and 101 recalls."""
        rest = metric.removeprefix(f"{self.kind}_ap")
        area = AREAS.index(rest) if rest in AREAS else 0
        which = {"50": [0], "75": [5]}.get(rest, list(range(len(THRESHOLDS))))
        found = [self._of_category(k, area, which, weights) for k in range(self.truth.shape[2])]
        with np.errstate(invalid="ignore"):
            known = ~np.isnan(found)
            return np.asarray(100 * np.nansum(found, axis=0) / known.sum(axis=0))

    def _of_category(self, category: int, area: int, which: list[int], weights: Whole) -> Floats:
        """AP of one category [R], NaN where a resample has nothing of it to be found."""
        rows = np.flatnonzero(self.category == category)
        truth = weights @ self.truth[area, :, category].astype(np.int64)
        if not truth.any():
            return np.full(len(weights), np.nan)
        counted = weights[:, self.image[rows]]
        total = np.zeros(len(weights))
        for t in which:
            right, kept = self.right[area, t, rows], ~self.ignored[area, t, rows]
            hits = np.cumsum(counted * (right & kept), axis=1)
            misses = np.cumsum(counted * (~right & kept), axis=1)
            total += _average_precision(hits, misses, truth)
        return np.where(truth > 0, total / len(which), np.nan)


def _average_precision(hits: Whole, misses: Whole, truth: Whole) -> Floats:
    """Mean over 101 recalls of the highest precision at that recall or more, of each resample [R]; see pycocotools."""
    precision = hits / np.maximum(hits + misses, np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / np.maximum(truth, 1)[:, None]
    found = np.zeros(len(hits))
    for r in range(len(hits)):
        at = np.searchsorted(recall[r], RECALLS, side="left")
        inside = at[at < recall.shape[1]]
        found[r] = best[r, inside].sum() / len(RECALLS)
    return found


@dataclass(frozen=True)
class Overlaps:
    """Pixels of each class in each image, [n, classes]: predicted rightly, predicted at all, and there in truth."""

    both: NDArray[np.int64]
    predicted: NDArray[np.int64]
    truth: NDArray[np.int64]

    kind: ClassVar[str] = "overlaps"

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.both)

    def metrics(self) -> tuple[str, ...]:
        """Mean intersection over union, share of pixels that are right, and its mean over classes."""
        return ("miou", "aacc", "macc")

    def values(self, metric: str, weights: Whole) -> Floats:
        """The metric in percent of each resample [R]; classes that are neither predicted nor there count in none."""
        both, predicted, truth = (weights @ each for each in (self.both, self.predicted, self.truth))
        with np.errstate(invalid="ignore", divide="ignore"):
            if metric == "aacc":
                return np.asarray(100 * both.sum(1) / truth.sum(1))
            share = both / (predicted + truth - both) if metric == "miou" else both / truth
            known = ~np.isnan(share)
            return np.asarray(100 * np.nansum(share, axis=1) / known.sum(axis=1))


def changed(before: Dense, after: Dense) -> int:
    """In how many images two outcomes of one kind differ at all."""
    return sum(left != right for left, right in zip(_by_image(before), _by_image(after), strict=True))


def _by_image(of: Dense) -> list[bytes]:
    """What is known of each image, as bytes."""
    if isinstance(of, Overlaps):
        return [np.stack([of.both[i], of.predicted[i], of.truth[i]]).tobytes() for i in range(of.n)]
    assert isinstance(of, Matches)
    order = np.argsort(of.image, kind="mergesort")
    cuts = np.searchsorted(of.image[order], np.arange(of.n + 1))
    rows = [order[start:end] for start, end in zip(cuts[:-1], cuts[1:], strict=True)]
    return [of.category[r].tobytes() + of.score[r].tobytes() + of.right[..., r].tobytes() for r in rows]


def value(of: Dense, metric: str) -> float:
    """The metric in percent of all images, each once."""
    return float(of.values(metric, np.ones((1, of.n), np.int64))[0])


def resampled(of: Dense, metric: str) -> Floats:
    """The metric of each resample, [RESAMPLES]."""
    return of.values(metric, _weights(of.n))


def stderr(of: Dense, metric: str) -> float | None:
    """The bootstrap's standard error in points; None for a single image."""
    return float(np.nanstd(resampled(of, metric), ddof=1)) if of.n > 1 else None


@cache
def _weights(n: int) -> Whole:
    """How often each of n images is in each resample, [RESAMPLES, n]."""
    return np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.int64)


def arrays_of(of: Dense) -> dict[str, NDArray[np.generic]]:
    """Either kind as arrays for a file, bits packed."""
    if isinstance(of, Overlaps):
        return {f"overlaps.{name}": getattr(of, name).astype(np.int32) for name in ("both", "predicted", "truth")}
    assert isinstance(of, Matches)
    plain = {name: getattr(of, name) for name in ("image", "category", "score", "truth")}
    bits = {name: np.packbits(getattr(of, name)) for name in ("right", "ignored")}
    return {f"{of.kind}.{name}": array for name, array in {**plain, **bits}.items()}


def from_arrays(file: Mapping[str, NDArray[np.generic]]) -> list[Dense]:
    """What a file holds of either kind; ValueError or KeyError where it is broken."""
    found: list[Dense] = []
    if "overlaps.both" in file:
        parts = [np.asarray(file[f"overlaps.{name}"]).astype(np.int64) for name in ("both", "predicted", "truth")]
        if len({part.shape for part in parts}) != 1 or any((part < 0).any() for part in parts):
            raise ValueError("overlaps do not fit together")
        found.append(Overlaps(*parts))
    found += [_matches(file, kind) for kind in ("box", "mask") if f"{kind}.image" in file]
    return found


def _matches(file: Mapping[str, NDArray[np.generic]], kind: str) -> Matches:
    image, category = (np.asarray(file[f"{kind}.{name}"]).astype(np.int32) for name in ("image", "category"))
    truth, score = np.asarray(file[f"{kind}.truth"]).astype(np.int32), np.asarray(file[f"{kind}.score"])
    shape = (len(AREAS), len(THRESHOLDS), len(image))
    if truth.ndim != 3 or len(truth) != len(AREAS) or len(category) != len(image) or len(score) != len(image):
        raise ValueError("matches do not fit together")
    if len(image) and (image.min() < 0 or image.max() >= truth.shape[1] or category.max() >= truth.shape[2]):
        raise ValueError("matches of images that are not there")
    right, ignored = (_bits(file[f"{kind}.{name}"], shape) for name in ("right", "ignored"))
    return Matches(kind, image, category, score.astype(np.float64), right, ignored, truth)


def _bits(words: NDArray[np.generic], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    size = int(np.prod(shape))
    bits = np.unpackbits(np.asarray(words).astype(np.uint8, casting="safe"))
    if not size <= len(bits) < size + 8:
        raise ValueError(f"{len(words)} bytes do not hold {size} bits")
    return bits[:size].astype(bool).reshape(shape)

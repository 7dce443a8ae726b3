"""What was found in each image and whether it is there: what average precision is made of, on any of the images.

COCO matches what was found in one image with what is there, and only then ranks it over all images. The first part is
kept here, so that the second can be done again on a resample. There, an image that was drawn w times counts w times:
average precision needs the cumulative sums of w over one order of what was found, and nothing is sorted again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vitq.outcomes.resampling import Floats, Weights, resamples

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlaps from which something found is taken for what is there."""
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"": (0.0, 1e5**2), "_s": (0.0, 32.0**2), "_m": (32.0**2, 96.0**2), "_l": (96.0**2, 1e5**2)}
"""By the end of a metric's name, the pixels of what it counts."""
_WHOLE = {"ap": slice(None), "ap50": slice(0, 1), "ap75": slice(5, 6)}
_TINY = np.spacing(1)
_KEPT: dict[tuple[str, int], Floats] = {}

Bits = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Matches:
    """What was found by its boxes or by its masks.

    Attributes:
        by: whether overlaps are of boxes or of masks.
        image, category, score: of each of the d things found, [d]; where scores tie, the first one ranks higher.
        matched, ignored: [d, areas, thresholds], whether it is there, and whether it counts for nothing either way.
        truths: how many things there are to find, [n, categories, areas].
    """

    by: Literal["box", "mask"]
    image: NDArray[np.int32]
    category: NDArray[np.int32]
    score: NDArray[np.float32]
    matched: Bits
    ignored: Bits
    truths: NDArray[np.int32]

    def __post_init__(self) -> None:
        d, bits = len(self.score), (len(self.score), len(AREAS), len(THRESHOLDS))
        if (
            self.image.shape != (d,)
            or self.category.shape != (d,)
            or {self.matched.shape, self.ignored.shape} != {bits}
        ):
            raise ValueError(f"{d} scores do not fit what they are of")
        if self.truths.ndim != 3 or self.truths.shape[2] != len(AREAS) or (self.truths < 0).any():
            raise ValueError(f"true things of shape {self.truths.shape}")
        for name, numbers, many in (("image", self.image, self.n), ("category", self.category, self.truths.shape[1])):
            if d and not 0 <= numbers.min() <= numbers.max() < many:
                raise ValueError(
                    f"an {name} that is not among the {many}" if name == "image" else f"a {name} of {many}"
                )
        if not np.isfinite(self.score).all():
            raise ValueError("a score that is no number")

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.truths)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that have a value: those of an area of which there is something to find."""
        there = self.truths.sum(axis=(0, 1)) > 0
        ends = {"": ("ap", "ap50", "ap75")} | {end: (f"ap{end}",) for end in AREAS if end}
        return tuple(f"{self.by}_{name}" for end, held in zip(AREAS, there, strict=True) if held for name in ends[end])

    def value(self, metric: str, images: Sequence[int] | None = None) -> float | None:
        """A metric in percent, on all images or a multiset of their indices; None where there is nothing to find."""
        area, thresholds = self._part(metric)
        picked = np.arange(self.n) if images is None else np.asarray(images, dtype=np.int64)
        weights = np.bincount(picked, minlength=self.n).astype(np.int32)[None]
        value = float(self.precisions(area, weights)[0, thresholds].mean())
        return value if np.isfinite(value) else None

    def resampled(self, metric: str) -> Floats:
        """The metric in percent on every resample of the images, NaN where there is nothing to find."""
        area, thresholds = self._part(metric)
        key = (self.digest(), area)
        if key not in _KEPT:  # a report pairs one FP32 model with every row
            _KEPT[key] = self.precisions(area, resamples(self.n))
        return np.asarray(_KEPT[key][:, thresholds].mean(axis=1))

    def precisions(self, area: int, weights: Weights) -> Floats:
        """Average precision in percent, mean over categories, with each image counted `weights` [b, n] times.

        [b, thresholds]; NaN where there is nothing to find. As COCO has it: over what was found by falling score, the
        precision at each of 101 recalls is the highest at that recall or beyond; a category of which there is nothing
        is left out.
        """
        there = np.einsum("bn,nc->bc", weights, self.truths[:, :, area], dtype=np.int64)
        total, categories = np.zeros((len(weights), len(THRESHOLDS))), (there > 0).sum(axis=1)[:, None]
        for category, ranked in self._ranked():
            if not there[:, category].any():
                continue
            counted = ~self.ignored[ranked, area]
            hits = self.matched[ranked, area] & counted
            drawn = weights[:, self.image[ranked]]
            for t in range(len(THRESHOLDS)):
                total[:, t] += _average_precision(drawn, hits[:, t], counted[:, t], there[:, category])
        return np.where(categories > 0, 100 * total / np.maximum(categories, 1), np.nan)

    def _ranked(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Each category of which something was found, with the indices of it by falling score."""
        order = np.lexsort((-self.score, self.category))
        found, starts = np.unique(self.category[order], return_index=True)
        yield from zip(found.tolist(), np.split(order, starts[1:]), strict=True) if len(found) else ()

    def _part(self, metric: str) -> tuple[int, slice]:
        """The area and the thresholds that a metric is of."""
        by, _, rest = metric.partition("_")
        end = rest.removeprefix("ap")
        if by != self.by or (rest not in _WHOLE and end not in AREAS):
            raise KeyError(f"things found by their {self.by} say nothing of {metric}")
        return (0, _WHOLE[rest]) if rest in _WHOLE else (list(AREAS).index(end), slice(None))

    def changed(self, other: Matches) -> int:
        """Number of images in which something else was found, or with another score."""
        mine, theirs = self._by_image(), other._by_image()
        return sum(mine.get(i) != theirs.get(i) for i in mine.keys() | theirs.keys())

    def _by_image(self) -> dict[int, bytes]:
        order = np.argsort(self.image, kind="stable")
        found, starts = np.unique(self.image[order], return_index=True)
        parts = np.split(order, starts[1:]) if len(found) else []
        held = (self.category, self.score, self.matched, self.ignored)
        return {int(i): b"".join(a[p].tobytes() for a in held) for i, p in zip(found, parts, strict=True)}

    def digest(self) -> str:
        """sha256 of what was found and what is there."""
        total = hashlib.sha256(self.by.encode())
        for name, array in self.arrays().items():
            total.update(f"{name} {array.shape} {array.dtype.str}".encode() + np.ascontiguousarray(array).tobytes())
        return total.hexdigest()

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a file holds: bits eight a byte."""
        bits = {"matched": np.packbits(self.matched), "ignored": np.packbits(self.ignored)}
        plain = {"image": self.image, "category": self.category, "score": self.score, "truths": self.truths}
        return {**plain, **bits}

    @classmethod
    def of(cls, by: Literal["box", "mask"], arrays: Mapping[str, NDArray[np.generic]]) -> Matches:
        """From what a file holds; KeyError, TypeError or ValueError where it holds something else."""
        image, category, truths = (
            arrays[name].astype(np.int32, casting="safe") for name in ("image", "category", "truths")
        )
        score = arrays["score"].astype(np.float32, casting="safe")
        shape = (len(score), len(AREAS), len(THRESHOLDS))
        matched, ignored = (_bits(arrays[name], shape) for name in ("matched", "ignored"))
        return cls(by, image, category, score, matched, ignored, truths)


def _bits(words: NDArray[np.generic], shape: tuple[int, ...]) -> Bits:
    n = int(np.prod(shape))
    bits = np.unpackbits(words.astype(np.uint8, casting="safe"))
    if not n <= len(bits) < n + 8:
        raise ValueError(f"{len(words)} bytes do not hold {n} bits")
    return bits[:n].astype(bool).reshape(shape)


def _average_precision(drawn: Weights, hits: Bits, counted: Bits, there: NDArray[np.int64]) -> Floats:
    """Average precision [b] of one category, in [0, 1], of things [d] by falling score that count `drawn` [b, d] times.

    Precision falls between two hits, so that its highest value from any place on is at a hit: the other places are
    summed over and left out. At a hit where recall passes from r' to r, the recalls in (r', r] of the 101 have the
    highest precision from there on.
    """
    at = np.flatnonzero(hits)
    if not len(at):
        return np.zeros(len(drawn))
    until = at[-1] + 1
    starts = np.concatenate([[0], at[:-1] + 1])
    seen = np.cumsum(np.add.reduceat(drawn[:, :until] * counted[:until], starts, axis=1), axis=1, dtype=np.int64)
    right = np.cumsum(drawn[:, at], axis=1, dtype=np.int64)
    precision = right / (seen + _TINY)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    passed = np.searchsorted(RECALLS, right / np.maximum(there, 1)[:, None], side="right")
    return np.asarray((highest * np.diff(passed, axis=1, prepend=0)).sum(axis=1) / len(RECALLS))

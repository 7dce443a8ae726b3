"""COCO's average precision of boxes and masks, with the overlaps of faster-coco-eval.

What was found in an image is matched here with what is there, by the rule of COCO's `evaluateImg`, once for every area
and threshold: faster-coco-eval does the same but keeps the matches to itself, and a standard error over images needs
them. What the matches are worth is in `vitq.outcomes.matches`; tests hold the values against faster-coco-eval's and
pycocotools' own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitq import mm
from vitq.errors import BadInputError, UnsupportedError
from vitq.outcomes import Matches, deviation
from vitq.outcomes.matches import AREAS, THRESHOLDS
from vitq.tasks.base import Measured

MOST_FOUND = 100
"""How many things of one category count in an image: those of the highest scores."""
_RANGES = np.array(list(AREAS.values()))
_LOWEST = np.minimum(THRESHOLDS, 1 - 1e-10)

Annotation = Mapping[str, Any]
Bits = NDArray[np.bool_]
By = Literal["box", "mask"]


@dataclass(frozen=True)
class Found:
    """What was found in one image of COCO's `image_id`, in its pixels on disk; arrays or tensors.

    `boxes` [n, 4] are x1, y1, x2, y2; `scores` [n]; `labels` [n] index the category ids in rising order; `masks` are
    COCO's run lengths, or arrays [H, W] of bool; None where nothing but boxes was looked for.
    """

    image_id: int
    boxes: Any
    scores: Any
    labels: Any
    masks: Sequence[Any] | None = None


def average_precision(truth: Mapping[str, Any], found: Sequence[Found]) -> dict[str, Measured]:
    """Metrics in percent of boxes, and of masks where they were looked for, on the images of `found` in their order.

    `truth` is the content of a COCO file. A metric of an area of which there is nothing is left out. Raises
    BadInputError for an image that is not in `truth` or comes twice, and for a label that is no category;
    UnsupportedError where faster-coco-eval is not installed.
    """
    absent = mm.why_absent("faster_coco_eval")
    if absent:
        raise UnsupportedError(absent)
    truths = _Truths(truth, found)
    looked_for: list[By] = ["box", "mask"] if any(each.masks is not None for each in found) else ["box"]
    measured: dict[str, Measured] = {}
    for by in looked_for:
        matches = _matches(by, truths, found)
        for name in matches.metrics:
            value = matches.value(name)
            stderr = deviation(matches.resampled(name)) if matches.n > 1 else None
            if value is not None:
                measured[name] = Measured(value, matches.n, stderr, matches)
    return measured


class _Truths:
    """The annotations of the images to be evaluated, by image and category."""

    def __init__(self, truth: Mapping[str, Any], found: Sequence[Found]) -> None:
        self.categories = sorted(int(each["id"]) for each in truth["categories"])
        self.sizes = {int(each["id"]): (int(each["height"]), int(each["width"])) for each in truth["images"]}
        ids = [each.image_id for each in found]
        strange = [each for each in ids if each not in self.sizes]
        if strange or len(set(ids)) < len(ids):
            wrong = f"image {strange[0]} is not in the annotations" if strange else "an image was evaluated twice"
            raise BadInputError(wrong)
        self.position = {each: i for i, each in enumerate(ids)}
        self.things: dict[tuple[int, int], list[Annotation]] = defaultdict(list)
        for each in truth["annotations"]:
            self.things[int(each["image_id"]), int(each["category_id"])].append(each)

    def ignored(self, things: Sequence[Annotation]) -> Bits:
        """Whether each thing is none to find, by area, [areas, g]: a crowd, or of another area."""
        area = np.array([float(each["area"]) for each in things])
        return _outside(area) | _crowd(things)[None]

    def counts(self) -> NDArray[np.int32]:
        """Things to find, [n, categories, areas]."""
        counted = np.zeros((len(self.position), len(self.categories), len(AREAS)), dtype=np.int32)
        index = {each: i for i, each in enumerate(self.categories)}
        for (image, category), things in self.things.items():
            if image in self.position and category in index:
                counted[self.position[image], index[category]] = (~self.ignored(things)).sum(axis=1)
        return counted


def _crowd(things: Sequence[Annotation]) -> Bits:
    return np.array([bool(each.get("iscrowd", 0)) for each in things], dtype=bool)


def _outside(area: NDArray[np.float64]) -> Bits:
    """Whether things of these pixels [d] are outside each area, [areas, d]."""
    return np.asarray((area[None] < _RANGES[:, :1]) | (area[None] > _RANGES[:, 1:]))


def _matches(by: By, truths: _Truths, found: Sequence[Found]) -> Matches:
    """Everything found by boxes or masks, in the order of image ids, by category, by falling score."""
    parts = []
    for each in sorted(found, key=lambda f: f.image_id):
        scores, labels = np.asarray(each.scores, dtype=np.float32), np.asarray(each.labels, dtype=np.int64)
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(truths.categories):
            raise BadInputError(f"image {each.image_id}: label {labels.max()} of {len(truths.categories)} categories")
        for label in np.unique(labels).tolist():
            own = np.flatnonzero(labels == label)
            own = own[np.argsort(-scores[own], kind="stable")][:MOST_FOUND]
            things = truths.things.get((each.image_id, truths.categories[label]), [])
            matched, ignored = _matched(by, each, own, truths, things)
            place = np.array([[truths.position[each.image_id], label]], dtype=np.int32).repeat(len(own), axis=0)
            parts.append((place, scores[own], matched, ignored))
    none = (np.zeros((0, 2), np.int32), np.zeros(0, np.float32), *(np.zeros((0, len(AREAS), len(_LOWEST)), bool),) * 2)
    place, score, matched, ignored = (np.concatenate(column) for column in zip(none, *parts, strict=True))
    return Matches(by, place[:, 0], place[:, 1], score, matched, ignored, truths.counts())


def _matched(
    by: By, found: Found, own: NDArray[np.int64], truths: _Truths, things: Sequence[Annotation]
) -> tuple[Bits, Bits]:
    """Whether each of `own` is matched, and whether it counts for nothing, [d, areas, thresholds] both."""
    shapes = _boxes(found, own) if by == "box" else _masks(found, own)
    matched = np.zeros((len(own), len(AREAS), len(_LOWEST)), dtype=bool)
    ignored = np.zeros_like(matched)
    if things:
        there = [each["bbox"] for each in things] if by == "box" else _true_masks(things, truths.sizes[found.image_id])
        _match(_iou(shapes, there, things), truths.ignored(things), _crowd(things), matched, ignored)
    ignored |= ~matched & _outside(_pixels(by, shapes)).T[:, :, None]
    return matched, ignored


def _match(iou: NDArray[np.float64], ignore: Bits, crowd: Bits, matched: Bits, ignored: Bits) -> None:
    """COCO's greedy matching: by falling score, each takes what it overlaps most of what is not taken yet.

    What is to be found goes before what is to be ignored, and the last one where overlaps tie; a crowd is never taken.
    `iou` [d, g], `ignore` [areas, g]; `matched` and `ignored` are written to.
    """
    taken = np.zeros((len(AREAS), len(_LOWEST), len(crowd)), dtype=bool)
    areas, thresholds = np.ogrid[: len(AREAS), : len(_LOWEST)]
    for i in np.flatnonzero((iou >= _LOWEST[0]).any(axis=1)).tolist():
        near = (~taken | crowd) & (iou[i] >= _LOWEST[:, None])
        wanted = near & ~ignore[:, None]
        pool = np.where(wanted.any(axis=2, keepdims=True), wanted, near)
        best = len(crowd) - 1 - np.where(pool, iou[i], -1.0)[:, :, ::-1].argmax(axis=2)
        matched[i] = pool.any(axis=2)
        ignored[i] = matched[i] & ignore[areas, best]
        taken[areas, thresholds, best] |= matched[i]


def _iou(shapes: Any, there: Any, things: Sequence[Annotation]) -> NDArray[np.float64]:
    from faster_coco_eval.core import mask  # only who evaluates needs it

    crowd = [int(each) for each in _crowd(things)]
    return np.asarray(mask.iou(shapes, there, crowd), dtype=np.float64).reshape(len(shapes), len(things))


def _boxes(found: Found, own: NDArray[np.int64]) -> list[list[float]]:
    """x, y, width, height of each."""
    boxes = np.asarray(found.boxes, dtype=np.float64).reshape(-1, 4)[own]
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()  # type: ignore[no-any-return]


def _masks(found: Found, own: NDArray[np.int64]) -> list[Any]:
    """Run lengths of each."""
    if found.masks is None:
        raise BadInputError(f"image {found.image_id}: masks were looked for in other images, not in this one")
    return [run_lengths(found.masks[i]) for i in own.tolist()]


def run_lengths(mask: Any) -> Mapping[str, Any]:
    """COCO's run lengths of a mask [H, W] of bool; run lengths are given back as they are."""
    from faster_coco_eval.core import mask as coco

    if isinstance(mask, Mapping):
        return mask
    encoded: Mapping[str, Any] = coco.encode(np.asfortranarray(np.asarray(mask, dtype=np.uint8)))
    return encoded


def _true_masks(things: Sequence[Annotation], size: tuple[int, int]) -> list[Any]:
    """Run lengths of what is annotated, from polygons or run lengths of either kind."""
    from faster_coco_eval.core import mask

    return [mask.segmToRle(each["segmentation"], size[1], size[0]) for each in things]


def _pixels(by: By, shapes: Any) -> NDArray[np.float64]:
    from faster_coco_eval.core import mask

    if by == "box":
        return np.array([width * height for _, _, width, height in shapes])
    return np.asarray(mask.area(shapes), dtype=np.float64).reshape(len(shapes))

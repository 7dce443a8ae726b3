"""COCO's average precision of boxes and masks by faster-coco-eval, and what it is made of, image by image.

The values are faster-coco-eval's. Beside them the matching of pycocotools' `COCOeval.evaluateImg` is done here, for
standard errors and paired comparisons need it by image; what follows from it must be the same value.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitq import mm
from vitq.dense_outcomes import AREAS, THRESHOLDS, Matches, stderr, value
from vitq.errors import UnsupportedError
from vitq.tasks.base import Measured

MOST = 100
"""Detections an image and category that are looked at, the best by score."""
RANGES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
STATS = {"": 0, "50": 1, "75": 2, "_s": 3, "_m": 4, "_l": 5}
"""Where COCO's summary has each metric."""
AGREES = 1e-6
"""Points by which the two ways of computing may differ by rounding."""


@dataclass(frozen=True)
class Found:
    """What was found in one image: boxes [n, 4] as x1, y1, x2, y2 in its own pixels, scores [n], labels [n], masks.

    `labels` are indices into the sorted category ids; `masks` are COCO's compressed runs, None where none were asked.
    """

    image_id: int
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    masks: list[dict[str, Any]] | None = None


def average_precision(truth: Mapping[str, Any], found: Sequence[Found]) -> dict[str, Measured]:
    """AP, AP50, AP75 and AP by area, in percent, of boxes and, where there are any, of masks.

    `found` has an entry for every image of `truth`, in the same order. A metric without anything to be found is left
    out. Raises UnsupportedError where faster-coco-eval is not installed.
    """
    absent = mm.why_absent("faster_coco_eval")
    if absent:
        raise UnsupportedError(absent)
    kinds = ["box", *(["mask"] if any(each.masks is not None for each in found) else [])]
    measured: dict[str, Measured] = {}
    for kind in kinds:
        rows = _rows(truth, found, kind)
        stats, matches = _stats(truth, rows, kind), _matches(truth, rows, kind)
        for name in matches.metrics():
            told = 100 * float(stats[STATS[name.removeprefix(f"{kind}_ap")]])
            again = value(matches, name)
            if abs(told - again) > AGREES:
                raise ArithmeticError(f"{name} is {told} by faster-coco-eval and {again} by image: one is wrong")
            measured[name] = Measured(told, matches.n, stderr(matches, name), matches)
    return measured


def _rows(truth: Mapping[str, Any], found: Sequence[Found], kind: str) -> list[dict[str, Any]]:
    """Detections as a COCO results file has them."""
    ids = sorted(category["id"] for category in truth["categories"])
    rows = []
    for each in found:
        for i, (box, score, label) in enumerate(zip(each.boxes, each.scores, each.labels, strict=True)):
            x1, y1, x2, y2 = (float(v) for v in box)
            row = {
                "image_id": each.image_id,
                "category_id": ids[int(label)],
                "score": float(score),
                "id": len(rows) + 1,
            }
            if kind == "box":
                row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            else:
                assert each.masks is not None
                row["segmentation"] = each.masks[i]
            rows.append(row)
    return rows


def _stats(truth: Mapping[str, Any], rows: list[dict[str, Any]], kind: str) -> NDArray[np.float64]:
    """faster-coco-eval's summary, shares; zeros where nothing was found."""
    from faster_coco_eval import COCO, COCOeval_faster

    if not rows:
        return np.zeros(12)
    with contextlib.redirect_stdout(io.StringIO()):
        told = COCO({**truth, "annotations": [dict(each) for each in truth["annotations"]]})
        made = COCOeval_faster(told, told.loadRes([dict(row) for row in rows]), "bbox" if kind == "box" else "segm")
        made.evaluate()
        made.accumulate()
        made.summarize()
    return np.asarray(made.stats, dtype=np.float64)


def _matches(truth: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], kind: str) -> Matches:
    """Which detections are right, by COCO's rule, image by image."""
    images = {image["id"]: i for i, image in enumerate(truth["images"])}
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    categories = {category: k for k, category in enumerate(sorted(each["id"] for each in truth["categories"]))}
    there, seen = _grouped(truth["annotations"]), _grouped(rows)
    counts = np.zeros((len(AREAS), len(images), len(categories)), np.int32)
    columns: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]] = []
    flags: list[NDArray[np.bool_]] = []
    for category, k in categories.items():
        for image, i in images.items():
            gt, dt = there.get((image, category), []), _best(seen.get((image, category), []))
            if not gt and not dt:
                continue
            overlap = _overlap(gt, dt, kind, sizes[image])
            areas = _areas(dt, kind)
            done = [_match(gt, areas, overlap, low, high) for low, high in RANGES]
            counts[:, i, k] = [count for _, count in done]
            flags.append(np.stack([flag for flag, _ in done], axis=1))
            full = np.full(len(dt), 0, np.int32)
            columns.append((full + i, full + k, np.array([row["score"] for row in dt], np.float64)))
    if not columns:
        none = np.zeros((2, len(AREAS), len(THRESHOLDS), 0), bool)
        return Matches(kind, np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0), none[0], none[1], counts)
    image_of, category_of, score = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    flag = np.concatenate(flags, axis=3)
    order = np.argsort(-score, kind="mergesort")
    order = order[np.argsort(category_of[order], kind="mergesort")]
    return Matches(
        kind, image_of[order], category_of[order], score[order], flag[0][..., order], flag[1][..., order], counts
    )


def _grouped(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, Any], list[Mapping[str, Any]]]:
    found: dict[tuple[Any, Any], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["image_id"], row["category_id"]].append(row)
    return found


def _best(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    order = np.argsort([-row["score"] for row in rows], kind="mergesort")
    return [rows[i] for i in order[:MOST]]


def _overlap(gt: Sequence[Any], dt: Sequence[Any], kind: str, size: tuple[int, int]) -> NDArray[np.float64]:
    """Intersection over union [detections, truths]; over the detection's own area where the truth is a crowd."""
    from faster_coco_eval.core import mask as masks

    if not gt or not dt:
        return np.zeros((len(dt), len(gt)))
    crowd = [int(each["iscrowd"]) for each in gt]
    if kind == "box":
        left, right = [row["bbox"] for row in dt], [row["bbox"] for row in gt]
    else:
        left, right = [row["segmentation"] for row in dt], [_runs(each["segmentation"], size) for each in gt]
    return np.asarray(masks.iou(left, right, crowd), dtype=np.float64).reshape(len(dt), len(gt))


def _runs(shape: Any, size: tuple[int, int]) -> Any:
    """Polygons or runs as compressed runs."""
    from faster_coco_eval.core import mask as masks

    if isinstance(shape, list):
        return masks.merge(masks.frPyObjects(shape, *size))
    return masks.frPyObjects(shape, *size) if isinstance(shape["counts"], list) else shape


def _areas(dt: Sequence[Any], kind: str) -> NDArray[np.float64]:
    from faster_coco_eval.core import mask as masks

    if not dt:
        return np.zeros(0)
    if kind == "box":
        return np.array([row["bbox"][2] * row["bbox"][3] for row in dt])
    return np.asarray(masks.area([row["segmentation"] for row in dt]), dtype=np.float64)


def _match(
    gt: Sequence[Mapping[str, Any]], areas: NDArray[np.float64], overlap: NDArray[np.float64], low: float, high: float
) -> tuple[NDArray[np.bool_], int]:
    """Right and ignored [2, thresholds, detections] for one range of areas, and how many truths count."""
    ignore = np.array([bool(each["iscrowd"]) or not low <= each["area"] <= high for each in gt], bool)
    order = np.argsort(ignore, kind="mergesort")
    crowd = np.array([bool(each["iscrowd"]) for each in gt], bool)
    outside = (areas < low) | (areas > high)
    flags = np.zeros((2, len(THRESHOLDS), len(areas)), bool)
    for t, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(gt), bool)
        for d in range(len(areas)):
            g = _best_truth(overlap[d], order, ignore, crowd, taken, min(threshold, 1 - 1e-10))
            if g is not None:
                taken[g] = True
                flags[:, t, d] = not ignore[g], ignore[g]
            else:
                flags[1, t, d] = outside[d]
    return flags, int((~ignore).sum())


def _best_truth(
    overlap: NDArray[np.float64], order: NDArray[np.int64], ignore: NDArray[np.bool_], crowd: NDArray[np.bool_],
    taken: NDArray[np.bool_], least: float,
) -> int | None:  # fmt: skip
    """The truth that a detection is matched to: the one of most overlap, one that counts before one that does not."""
    best: int | None = None
    for g in order:
        if taken[g] and not crowd[g]:
            continue
        if best is not None and not ignore[best] and ignore[g]:
            break
        if overlap[g] < least:
            continue
        least, best = float(overlap[g]), int(g)
    return best

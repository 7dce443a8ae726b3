"""Made detections with their annotations, and made label maps, for tests of average precision and mIoU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitq.outcomes import Overlaps
from vitq.tasks.average_precision import Found
from vitq.tasks.overlaps import overlap

SIDE = 160
CATEGORIES = [3, 7, 9, 20, 21]
"""The last one has no annotation, the one before it no detection."""


def truth(rng: np.random.Generator, images: int) -> dict[str, Any]:
    """A COCO file: polygons, some of them crowds, of all areas; every fifth image has nothing in it."""
    annotations: list[dict[str, Any]] = []
    for image in range(images):
        for _ in range(0 if image % 5 == 4 else int(rng.integers(1, 7))):
            x0, y0, x1, y1 = _box(rng)
            corners = [x0, y0, x1, y0, x1, y1, x0, (y0 + y1) / 2]
            annotations.append({
                "id": len(annotations) + 1, "image_id": 10 + 3 * image, "category_id": int(rng.choice(CATEGORIES[:4])),
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": 0.75 * (x1 - x0) * (y1 - y0),
                "segmentation": [corners], "iscrowd": int(rng.random() < 0.15),
            })  # fmt: skip
    return {
        "images": [{"id": 10 + 3 * i, "height": SIDE, "width": SIDE, "file_name": f"{i}.png"} for i in range(images)],
        "categories": [{"id": each, "name": str(each)} for each in reversed(CATEGORIES)],
        "annotations": annotations,
    }  # fmt: skip


def _box(rng: np.random.Generator) -> list[float]:
    size = rng.choice([20, 60, 135]) * rng.uniform(0.8, 1.15, 2)
    x, y = rng.uniform(0, SIDE - size)
    return [round(float(each), 2) for each in (x, y, x + size[0], y + size[1])]


def detections(rng: np.random.Generator, file: dict[str, Any], *, ties: bool = True) -> list[Found]:
    """Found things: near what is there, twice, elsewhere and of wrong categories; scores tie; some images have none."""
    found = []
    for image in file["images"]:
        boxes, labels = [], []
        things = [each for each in file["annotations"] if each["image_id"] == image["id"]]
        for each in things if rng.random() < 0.9 else []:
            for _ in range(int(rng.integers(0, 3))):
                x, y, w, h = each["bbox"]
                boxes.append(np.clip(np.array([x, y, x + w, y + h]) + rng.normal(0, 0.05 * max(w, h), 4), 0, SIDE))
                labels.append(CATEGORIES.index(each["category_id"]) if rng.random() < 0.85 else 4)
        for _ in range(int(rng.integers(0, 3))):
            boxes.append(np.array(_box(rng)))
            labels.append(int(rng.integers(0, 3)))
        scores = rng.integers(1, 8, len(boxes)) / 8 if ties else rng.random(len(boxes))
        found.append(
            Found(
                image["id"],
                np.array(boxes).reshape(-1, 4),
                scores.astype(np.float32),
                np.array(labels, dtype=int),
                masks(boxes),
            )
        )
    return found


def masks(boxes: Any) -> list[NDArray[np.bool_]]:
    """Masks of boxes without their lower left corner."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    made = []
    for x0, y0, x1, y1 in boxes:
        inside = (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)
        made.append(inside & ~((columns - x0) * (y1 - y0) / 2 < (rows - (y0 + y1) / 2) * (x1 - x0)))
    return made


def label_maps(rng: np.random.Generator, images: int, classes: int, right: float) -> list[tuple[Any, Any]]:
    """Predictions and label maps [24, 30] of uint8, a share of it right and some unlabelled."""
    made = []
    for _ in range(images):
        there = rng.integers(0, classes - 1, (24, 30)).astype(np.uint8)
        called = np.where(rng.random(there.shape) < right, there, rng.integers(0, classes - 1, there.shape))
        made.append((called.astype(np.uint8), np.where(rng.random(there.shape) < 0.1, 255, there).astype(np.uint8)))
    return made


def overlaps(maps: list[tuple[Any, Any]], classes: int) -> Overlaps:
    """The pixels of label maps."""
    parts = [overlap(called, there, classes) for called, there in maps]
    return Overlaps(*(np.stack(column) for column in zip(*parts, strict=True)))

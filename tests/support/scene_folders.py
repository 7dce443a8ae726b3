"""Tiny folders laid out as COCO and ADE20K are, of noise, and ways to harm them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitq.datasets.scene_classes import COCO_CATEGORIES

SIZES = ((48, 64), (64, 40), (50, 50), (32, 70))
"""[H, W] of the made images, in turn."""
Json = dict[str, Any]


def noise(path: Path, size: tuple[int, int], seed: int) -> None:
    """A JPEG of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path, quality=90)


def make_coco(root: Path, images: int = 6) -> Path:
    """So many images a split, listed from the last to the first; the first has a thing, a crowd and an odd shape.

    Every image has a triangle of its own category but the one listed second, which has nothing.
    """
    for split, base in (("val2017", 0), ("train2017", 100)):
        found: Json = {"info": {}, "images": [], "annotations": [], "categories": categories()}
        for i in reversed(range(images)):
            number, (height, width) = base + i + 1, SIZES[i % len(SIZES)]
            noise(root / split / f"{number:012}.jpg", (height, width), number)
            name = f"{number:012}.jpg"
            found["images"].append({"id": number, "file_name": name, "height": height, "width": width})
            if i != images - 2:
                found["annotations"].append(triangle(number * 10, number, list(COCO_CATEGORIES)[i]))
        size = SIZES[(images - 1) % len(SIZES)]
        found["annotations"].append(crowd(7, base + images, size))
        write(root, split, found)
    return root


def categories() -> list[Json]:
    """COCO's own."""
    return [{"id": number, "name": name, "supercategory": "x"} for number, name in COCO_CATEGORIES.items()]


def triangle(number: int, image: int, category: int) -> Json:
    """A thing of 10 x 20 pixels at (5, 4), half of its box."""
    shape = [[5.0, 4.0, 15.0, 4.0, 5.0, 24.0]]
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": 0, "bbox": [5.0, 4.0, 10.0, 20.0],
            "area": 100.0, "segmentation": shape}  # fmt: skip


def crowd(number: int, image: int, size: tuple[int, int]) -> Json:
    """A crowd of persons over the second and third column, as runs."""
    height, width = size
    runs = {"size": [height, width], "counts": [height, 2 * height, height * (width - 3)]}
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 1, "bbox": [1, 0, 2, height],
            "area": 2 * height, "segmentation": runs}  # fmt: skip


def file_of(root: Path, split: str = "val2017") -> Path:
    """The annotation file of a split."""
    return root / "annotations" / f"instances_{split}.json"


def write(root: Path, split: str, found: Json) -> None:
    """Write the annotations of a split."""
    file_of(root, split).parent.mkdir(parents=True, exist_ok=True)
    file_of(root, split).write_text(json.dumps(found))


def change(root: Path, how: Callable[[Json], Any], split: str = "val2017") -> None:
    """Change the annotations of a split in place."""
    found = json.loads(file_of(root, split).read_text())
    how(found)
    write(root, split, found)


def make_ade(root: Path, images: int = 4) -> Path:
    """So many pairs a split; label maps of 0 to 150."""
    for split, short, base in (("validation", "val", 0), ("training", "train", 100)):
        for i in range(1, images + 1):
            size, name = SIZES[i % len(SIZES)], f"ADE_{short}_{i:08}"
            noise(root / "images" / split / f"{name}.jpg", size, base + i)
            labels = np.random.default_rng(base + i).integers(0, 151, size, dtype=np.uint8)
            labels[0, :3] = 0, 1, 150
            write_map(root / "annotations" / split / f"{name}.png", labels)
    return root


def write_map(path: Path, labels: Any) -> None:
    """A label map."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)

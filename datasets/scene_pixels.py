"""Resizing and flipping scenes as mmdet and mmsegmentation do, on 8-bit pixels, and reading them into batches.

Images are decoded by Pillow, which gives the pixels that mmcv's default, OpenCV, gives (both by libjpeg-turbo; a test
holds every real image to it), and resized by OpenCV, as `mmcv.imrescale` does: Pillow's bilinear filter is another one.
EXIF's orientation is not applied, for COCO's and ADE20K's annotations are of the stored pixels. Normalizing follows in
float32, (pixel / 255 - mean) / std: mmdet divides by 255 times as much instead, which differs by rounding alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitq.datasets.decoding import Unreadable, quiet_pillow, unreadable
from vitq.datasets.listing import Item
from vitq.datasets.reading_ahead import read_ahead
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.datasets.scenes import Batch, Scene
from vitq.errors import UnsupportedError
from vitq.mm import why_absent

Pixels = NDArray[np.uint8]
"""[H, W, 3] RGB, or [H, W] of a mask or a label map."""
MakeScene = Callable[[Item], "Scene | Unreadable"]
"""Reads one scene, its image [3, h, w] as uint8; BadInputError for what is wrong with its annotations."""
_READ_AHEAD = 2
"""Batches being read beside the one in use."""


def fitted(size: tuple[int, int], scale: tuple[int, int] | None) -> tuple[int, int]:
    """The size [h, w] that an image of `size` [H, W] has when it just fits into `scale`, as mmcv rounds it."""
    if scale is None:
        return size
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return int(size[0] * factor + 0.5), int(size[1] * factor + 0.5)


@cache
def opencv() -> Any:
    """OpenCV; UnsupportedError where it is not installed.

    Called before threads read: while one of them imports it, others would find it half there.
    """
    absent = why_absent("cv2")
    if absent:
        raise UnsupportedError(absent)
    import cv2

    return cv2


def resized(pixels: Pixels, size: tuple[int, int], nearest: bool = False) -> Pixels:
    """Pixels at `size` [h, w], bilinear or nearest by OpenCV, which is not asked for where they have it already."""
    if pixels.shape[:2] == size:
        return pixels
    how = opencv().INTER_NEAREST if nearest else opencv().INTER_LINEAR
    found: Pixels = opencv().resize(pixels, (size[1], size[0]), interpolation=how)
    return found


def dice_of(seed: int | None, item: Item) -> random.Random:
    """The random choices for one image of one epoch, the same whoever reads it."""
    return random.Random(f"{seed}:{item.path}")


def as_image(pixels: Pixels) -> torch.Tensor:
    """uint8 [3, h, w] from pixels [h, w, 3]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def scene_batches(
    root: Path, items: Sequence[Item], make: MakeScene, how: ScenePreprocessing, batch: int, workers: int | None
) -> Iterator[Batch]:
    """Batches of scenes in the order of `items`, normalized; the last may be smaller.

    `workers` threads read (0: the caller's own; None: one a core, at most 8): the same batches for every number of
    them. BadInputError names files that cannot be read.
    """
    quiet_pillow()
    if how.scale is not None:
        opencv()
    scenes = read_ahead(make, items, _READ_AHEAD * batch, workers)
    for i in range(0, len(items), batch):
        read = [next(scenes) for _ in items[i : i + batch]]
        bad = [each for each in read if isinstance(each, Unreadable)]
        if bad:
            raise unreadable(root, bad)
        yield [replace(each, image=how.normalize(each.image)) for each in read if isinstance(each, Scene)]

"""Scenes: images of any size with what is in them, as data sets of detection and segmentation hand them to a task."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Things:
    """The objects of one scene, in pixels of the input.

    `boxes` [n, 4] are x1, y1, x2, y2; `labels` [n] are indices of classes, not category ids; `masks` [n, h, w] are
    bool; `crowd` [n] marks groups that are neither found nor missed.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    crowd: Tensor


@dataclass(frozen=True)
class Scene:
    """One image [3, h, w], normalized and resized, not padded, with what is in it.

    `name` is what the data set's lists call it; `image_id` is COCO's, or its index; `original` [H, W] is its size on
    disk, which what is found is scaled back to. A detection data set gives `things`, where they are known; a
    segmentation data set gives `label_map` [H, W] of the original size, uint8 indices of classes, 255 where unlabelled.
    """

    image: Tensor
    name: str
    image_id: int
    original: tuple[int, int]
    things: Things | None = None
    label_map: Tensor | None = None


Batch = list[Scene]
"""A batch: scenes, each of its own size."""

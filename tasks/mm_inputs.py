"""Scenes as mmdet's and mmsegmentation's models take them: padded and stacked, with what they must know of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vitq.datasets.scenes import Scene


def stacked(batch: Sequence[Scene], divisor: int) -> Tensor:
    """Images [B, 3, H, W], padded on the right and at the bottom with zeros to one size, a multiple of `divisor`."""
    height, width = padded_size(batch, divisor)
    images = [scene.image for scene in batch]
    return torch.stack([F.pad(each, (0, width - each.shape[2], 0, height - each.shape[1])) for each in images])


def padded_size(batch: Sequence[Scene], divisor: int) -> tuple[int, int]:
    """The size (H, W) of a batch, the least multiple of `divisor` that holds every image of it."""
    height, width = (max(scene.image.shape[axis] for scene in batch) for axis in (1, 2))
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def meta_of(scene: Scene, size: tuple[int, int]) -> dict[str, Any]:
    """What a head must know of an image in a batch of `size`: its shapes, and how to scale boxes back (w, h)."""
    height, width = scene.image.shape[1:]
    factor = (width / scene.original[1], height / scene.original[0])
    return {
        "img_id": scene.image_id,
        "img_shape": (height, width),
        "ori_shape": scene.original,
        "pad_shape": size,
        "batch_input_shape": size,
        "scale_factor": factor,
    }


def samples_of(batch: Sequence[Scene], divisor: int, device: torch.device | str = "cpu") -> list[Any]:
    """mmdet's `DetDataSample` of each scene with its things, crowds as ignored; masks as mmdet's bitmaps."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    size = padded_size(batch, divisor)
    samples = []
    for scene in batch:
        sample = DetDataSample(metainfo=meta_of(scene, size))
        if scene.things is not None:
            kept, things = ~scene.things.crowd, scene.things
            masks = F.pad(things.masks, (0, size[1] - things.masks.shape[2], 0, size[0] - things.masks.shape[1]))
            taught = masks[kept].to("cpu", torch.uint8).numpy()
            sample.gt_instances = InstanceData(
                bboxes=things.boxes[kept].to(device),
                labels=things.labels[kept].to(device),
                masks=BitmapMasks(taught, *size),
            )
            sample.ignored_instances = InstanceData(
                bboxes=things.boxes[~kept].to(device), labels=things.labels[~kept].to(device)
            )
        samples.append(sample)
    return samples

"""Semantic segmentation: mmsegmentation's encoder-decoders on ADE20K and on the embedded digit scenes.

A batch is a list of scenes (`vitq.datasets.scenes`); what comes out are logits [B, classes, h, w] of its padded images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitq.datasets.scenes import Batch, Scene
from vitq.errors import MethodInputError
from vitq.outcomes import Overlaps
from vitq.tasks import prediction_pictures
from vitq.tasks.base import Data, Measured
from vitq.tasks.dense import Dense, device_of
from vitq.tasks.mm_inputs import stacked
from vitq.tasks.overlaps import UNLABELLED, Pixels, mean_iou, overlap


class Segmentation(Dense):
    """The task; see `vitq.tasks.base.Task` for what each function promises."""

    name = "segmentation"

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits [B, classes, h, w] of a batch, padded with zeros to its largest image, as the decode head gives them.

        A model that reads images in windows (`slide`) gives them at the image's own size, averaged where they overlap.
        """
        images = stacked(batch, 1).to(device_of(model))
        how = cast(Any, model).test_cfg
        if how.mode == "slide" and any(side > cut for side, cut in zip(images.shape[2:], how.crop_size, strict=True)):
            return _in_windows(model, images)
        return _logits(model, images)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Cross entropy of the logits, resized to the batch's images, over labelled pixels.

        Raises MethodInputError for images of which nothing is known, as generated ones are.
        """
        maps = [scene.label_map for scene in batch]
        if any(each is None for each in maps):
            raise MethodInputError(
                "a segmenter's loss needs images with label maps: these were generated, or have none"
            )
        height, width = (max(scene.image.shape[axis] for scene in batch) for axis in (1, 2))
        full = F.interpolate(output, (height, width), mode="bilinear", align_corners=False)
        wanted = torch.stack([_input_sized(scene, height, width) for scene in batch]).to(output.device)
        return F.cross_entropy(full, wanted, ignore_index=UNLABELLED)

    def distance(self, left: Tensor, right: Tensor) -> Tensor:
        """Mean absolute difference of logits."""
        return (left - right).abs().mean()

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Cross entropy of the student's softmax against the teacher's, averaged over pixels."""
        return F.cross_entropy(student, teacher.detach().softmax(dim=1))

    def digest(self, output: Tensor) -> str:
        """sha256 of the logits' bytes as float32."""
        return hashlib.sha256(output.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()

    def judge(self, model: nn.Module, batch: Batch) -> list[tuple[Pixels, Pixels, Pixels]]:
        """Pixels by class of each image of a batch, at the image's own size; see `overlaps.overlap`."""
        classes, counts = int(cast(Any, model).decode_head.num_classes), []
        for scene, said in zip(batch, self.labels(model, batch), strict=True):
            assert scene.label_map is not None
            counts.append(overlap(said.numpy(), scene.label_map.numpy(), classes))
        return counts

    def metrics(self, data: Data, judged: Sequence[Sequence[Any]]) -> dict[str, Measured]:  # noqa: ARG002
        """mIoU, aAcc and mAcc in percent at the images' own size, with the bootstrap's standard error over images."""
        counts = [pixels for each in judged for pixels in each]
        return mean_iou(Overlaps(*(np.stack(parts) for parts in zip(*counts, strict=True))))

    def labels(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        """The class of each pixel of every image as it lies on disk, [H, W] on the CPU; as mmsegmentation predicts.

        Logits are resized to the batch's images, cut to each, resized to its own size, and the largest is taken.
        """
        logits = self.forward(model, batch)
        height, width = (max(scene.image.shape[axis] for scene in batch) for axis in (1, 2))
        aligned = bool(cast(Any, model).align_corners)
        full = F.interpolate(logits, (height, width), mode="bilinear", align_corners=aligned)
        found = []
        for scene, each in zip(batch, full, strict=True):
            own = each[None, :, : scene.image.shape[1], : scene.image.shape[2]]
            sized = F.interpolate(own, scene.original, mode="bilinear", align_corners=aligned)
            found.append(sized[0].argmax(0).cpu())
        return found

    def pictures(self, before: nn.Module, after: nn.Module, data: Data) -> dict[str, bytes]:
        """The first validation images with the classes that each of two models gives their pixels."""
        return prediction_pictures.of_segmenters(self.labels, before, after, data)


def _logits(model: Any, images: Tensor) -> Tensor:
    return cast(Tensor, model.decode_head(model.extract_feat(images)))


def _in_windows(model: Any, images: Tensor) -> Tensor:
    """Logits [B, classes, H, W], averaged over the windows of `test_cfg`, as mmsegmentation's `slide_inference`."""
    (hc, wc), (hs, ws) = model.test_cfg.crop_size, model.test_cfg.stride
    b, _, h, w = images.shape
    total, seen = images.new_zeros(b, model.decode_head.num_classes, h, w), images.new_zeros(b, 1, h, w)
    for y in range(max(h - hc + hs - 1, 0) // hs + 1):
        for x in range(max(w - wc + ws - 1, 0) // ws + 1):
            bottom, right = min(y * hs + hc, h), min(x * ws + wc, w)
            top, left = max(bottom - hc, 0), max(right - wc, 0)
            part = images[:, :, top:bottom, left:right]
            found = F.interpolate(
                _logits(model, part), part.shape[2:], mode="bilinear", align_corners=model.align_corners
            )
            total[:, :, top:bottom, left:right] += found
            seen[:, :, top:bottom, left:right] += 1
    return total / seen


def _input_sized(scene: Scene, height: int, width: int) -> Tensor:
    """A scene's label map [height, width] in pixels of the padded input; padding is unlabelled."""
    assert scene.label_map is not None
    h, w = scene.image.shape[1:]
    sized = F.interpolate(scene.label_map[None, None].float(), (h, w), mode="nearest")[0, 0].long()
    return F.pad(sized, (0, width - w, 0, height - h), value=UNLABELLED)


TASK = Segmentation()

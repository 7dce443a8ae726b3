"""Detection and instance segmentation: mmdet's two-stage detectors on COCO and on the embedded digit scenes.

A batch is a list of scenes (`vitq.datasets.scenes`). A forward pass goes through the detector's own modules, so that
what a method put in their place is used: backbone, neck, RPN, box and mask heads.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitq.datasets.scenes import Batch, Scene
from vitq.errors import MethodInputError
from vitq.tasks import prediction_pictures
from vitq.tasks.average_precision import Found, average_precision
from vitq.tasks.base import Data, Measured
from vitq.tasks.dense import Dense, device_of
from vitq.tasks.mm_inputs import meta_of, padded_size, samples_of, stacked


@dataclass(frozen=True)
class DetectionOutput:
    """What a detector makes of a batch: feature maps of the neck, and what is found in each image.

    `found` is None where gradients are enabled, for a loss needs the feature maps alone. An entry has boxes [n, 4] in
    pixels of the image as it lies on disk, scores [n], labels [n] and, of a detector with masks, masks [n, H, W].
    """

    model: Any
    features: tuple[Tensor, ...]
    found: list[dict[str, Tensor]] | None


class Detection(Dense):
    """The task; see `vitq.tasks.base.Task` for what each function promises."""

    name = "detection"

    def forward(self, model: nn.Module, batch: Batch) -> DetectionOutput:
        """Feature maps and, without gradients, what is found; on `meta` every head runs on what its config keeps."""
        device, divisor = device_of(model), divisor_of(model)
        features = tuple(model.extract_feat(stacked(batch, divisor).to(device)))  # type: ignore[operator]
        if torch.is_grad_enabled():
            return DetectionOutput(model, features, None)
        if device.type == "meta":
            _run_heads(model, features)
            return DetectionOutput(model, features, [])
        return DetectionOutput(model, features, _predict(model, features, batch))

    def loss(self, output: DetectionOutput, batch: Batch) -> Tensor:
        """The detector's own losses, summed: RPN's, box head's and mask head's; samplers draw always the same.

        Raises MethodInputError for images of which nothing is known, as generated ones are.
        """
        if any(scene.things is None for scene in batch):
            raise MethodInputError(
                "a detector's loss needs images with annotations: these were generated, or have none"
            )
        model, features = output.model, output.features
        samples = samples_of(batch, divisor_of(model), features[0].device)
        proposed = copy.deepcopy(samples)
        for sample in proposed:
            sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
        with torch.random.fork_rng(devices=[features[0].device] if features[0].is_cuda else []):
            torch.manual_seed(0)
            config = model.train_cfg.get("rpn_proposal", model.test_cfg.rpn)
            first, proposals = model.rpn_head.loss_and_predict(features, proposed, proposal_cfg=config)
            second = model.roi_head.loss(features, proposals, samples)
        terms = [value for name, value in {**first, **second}.items() if "loss" in name]
        return torch.stack([t.sum() if isinstance(t, Tensor) else torch.stack(list(t)).sum() for t in terms]).sum()

    def distance(self, left: DetectionOutput, right: DetectionOutput) -> Tensor:
        """Mean absolute difference of feature maps, averaged over levels."""
        each = [(a - b).abs().mean() for a, b in zip(left.features, right.features, strict=True)]
        return torch.stack(each).mean()

    def distill(self, student: DetectionOutput, teacher: DetectionOutput) -> Tensor:
        """Mean squared difference of feature maps, averaged over levels."""
        each = [(a - b.detach()).square().mean() for a, b in zip(student.features, teacher.features, strict=True)]
        return torch.stack(each).mean()

    def digest(self, output: DetectionOutput) -> str:
        """sha256 of boxes, scores, labels and masks of every image, and of how many there are."""
        found = hashlib.sha256()
        for each in output.found or ():
            for name in sorted(each):
                tensor = each[name].detach().cpu().contiguous()
                found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode() + tensor.numpy().tobytes())
        return found.hexdigest()

    def judge(self, model: nn.Module, batch: Batch) -> list[Found]:
        """What the model finds in each image of a batch."""
        rows = self.forward(model, batch).found or []
        return [_as_found(scene, row) for scene, row in zip(batch, rows, strict=True)]

    def metrics(self, data: Data, judged: Sequence[Any]) -> dict[str, Measured]:
        """Box and mask AP in percent by COCO's rules, with the bootstrap's standard error over images."""
        assert data.truth is not None
        return average_precision(data.truth(), [found for each in judged for found in each])

    def pictures(self, before: nn.Module, after: nn.Module, data: Data) -> dict[str, bytes]:
        """The first validation images with what each of two models finds in them."""
        return prediction_pictures.of_detectors(self.forward, before, after, data)


def divisor_of(model: Any) -> int:
    """What the sides of a batch are padded to a multiple of."""
    return int(getattr(model.data_preprocessor, "pad_size_divisor", 1))


def _predict(model: Any, features: tuple[Tensor, ...], batch: Sequence[Scene]) -> list[dict[str, Tensor]]:
    """As mmdet's two-stage detectors predict, boxes scaled back to the image as it lies on disk."""
    from mmdet.structures import DetDataSample

    size = padded_size(batch, divisor_of(model))
    samples = [DetDataSample(metainfo=meta_of(scene, size)) for scene in batch]
    proposals = model.rpn_head.predict(features, samples, rescale=False)
    found = model.roi_head.predict(features, proposals, samples, rescale=True)
    names = {"bboxes": "boxes", "scores": "scores", "labels": "labels", "masks": "masks"}
    return [{names[key]: each[key] for key in names if key in each} for each in found]


def _run_heads(model: Any, features: tuple[Tensor, ...]) -> None:
    """Every head once, on as many proposals as the configuration keeps: what an image with enough to find costs."""
    model.rpn_head(features)
    proposals, kept = model.test_cfg.rpn.max_per_img, model.test_cfg.rcnn.max_per_img
    heads = model.roi_head
    for head, extractor in zip(_each(heads.bbox_head), _each(heads.bbox_roi_extractor), strict=True):
        head(_pooled(features, proposals, extractor))
    if heads.with_mask:
        for head, extractor in zip(_each(heads.mask_head), _each(heads.mask_roi_extractor), strict=True):
            head(_pooled(features, kept, extractor))


def _each(modules: Any) -> list[Any]:
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]


def _pooled(features: tuple[Tensor, ...], count: int, extractor: Any) -> Tensor:
    size = extractor.roi_layers[0].output_size
    return features[0].new_empty(count, extractor.out_channels, *size)


def _as_found(scene: Scene, row: dict[str, Tensor]) -> Found:
    from faster_coco_eval.core import mask as masks

    drawn = row.get("masks")
    runs = None if drawn is None else [
        masks.encode(np.asfortranarray(each.cpu().numpy().astype(np.uint8))) for each in drawn
    ]  # fmt: skip
    boxes, scores, labels = (row[name].cpu().numpy() for name in ("boxes", "scores", "labels"))
    return Found(scene.image_id, boxes.astype(np.float64), scores.astype(np.float64), labels, runs)


TASK = Detection()

"""mmcv's operators through torchvision, under the names and argument orders that mmcv's Python calls them by."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import Tensor

from vitq.errors import UnsupportedError

NAIVE, LINEAR, GAUSSIAN = range(3)
"""How `softnms` lowers the score of a box that overlaps a better one."""
AVERAGE = 1
"""mmcv's number of RoIAlign's `pool_mode`; 0 is by maximum."""


class Operators(ModuleType):
    """Stands in for `mmcv._ext`; an operator that is not here is named in one line when it is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return OFFERED.get(name) or _missing(name)


def _missing(name: str) -> Callable[..., Any]:
    def missing(*_: Any, **__: Any) -> Any:
        raise UnsupportedError(f"mmcv is not compiled here and has no operator {name}: install a compiled mmcv")

    return missing


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes [n, 4] that are kept, best score first, the earlier of equal ones first.

    A box goes where its IoU with a better one that stays is above the threshold; `offset` 1 counts both border pixels
    of a side.
    """
    kind = torch.promote_types(boxes.dtype, torch.float32)
    shifted = boxes.to(kind) + boxes.new_tensor([0, 0, offset, offset])
    kept: Tensor = torchvision.ops.nms(shifted, scores.to(kind), float(iou_threshold))
    return kept


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Indices of the boxes [n, 4] that are kept, as they were taken; their boxes and lowered scores go into `dets`.

    The best box is taken, and the scores of the rest are lowered by their IoU with it (Soft-NMS, arXiv 1704.04503,
    equations 1 to 3), until none is left of at least `min_score`; the first box is taken whatever its score. Of equal
    scores the one that stands first is taken, and where boxes stand is as in mmcv's kernel: one that is taken changes
    places with the first of the rest, and in the place of one that falls out comes the last. `dets` [n, 5] beyond the
    boxes kept stays as it was.
    """
    order, left = torch.arange(len(boxes)), scores.clone()
    areas = _areas(boxes, offset)
    taken, n = 0, len(boxes)
    while taken < n:
        best = taken + int(left[order[taken:n]].argmax())
        order[[taken, best]] = order[[best, taken]]
        first, rest = order[taken], order[taken + 1 : n]
        dets[taken, :4], dets[taken, 4] = boxes[first], left[first]
        inter = _overlaps(boxes[first], boxes[rest], offset)
        left[rest] *= _weights(inter / (areas[first] + areas[rest] - inter), iou_threshold, sigma, method)
        taken += 1
        n = _drop(order, (left < min_score).tolist(), taken, n)
    return order[:n].clone()


def _areas(boxes: Tensor, offset: int) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)


def _overlaps(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """The area [n] that a box [4] shares with each of the boxes [n, 4]."""
    corner, other = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])
    return (other - corner + offset).clamp(min=0).prod(dim=1)


def _weights(iou: Tensor, iou_threshold: float, sigma: float, method: int) -> Tensor:
    if method == GAUSSIAN:
        return (-iou.square() / sigma).exp()
    lowered = torch.zeros_like(iou) if method == NAIVE else 1 - iou
    return torch.where(iou >= iou_threshold, lowered, torch.ones_like(iou))


def _drop(order: Tensor, low: list[bool], start: int, end: int) -> int:
    """Put the last in the place of every box from `start` to `end` that is too low; the new end."""
    while start < end:
        if low[int(order[start])]:
            end -= 1
            order[start] = order[end]
        else:
            start += 1
    return end


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,  # noqa: ARG001
    argmax_x: Tensor,  # noqa: ARG001
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign of `rois` [n, 5] (image, x1, y1, x2, y2) by averaging into `output` [n, C, h, w].

    Raises UnsupportedError for pooling by maximum.
    """
    _check_average(pool_mode)
    size = (aligned_height, aligned_width)
    output.copy_(torchvision.ops.roi_align(input, rois.to(input.dtype), size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,  # noqa: ARG001
    argmax_x: Tensor,  # noqa: ARG001
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """The gradient of `roi_align_forward` into `grad_input` [B, C, H, W]."""
    _check_average(pool_mode)
    settings = (spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio, aligned)
    found = torch.ops.torchvision._roi_align_backward(grad_output, rois.to(grad_output.dtype), *settings)
    grad_input.copy_(found)


def _check_average(pool_mode: int) -> None:
    if pool_mode != AVERAGE:
        raise UnsupportedError("RoIAlign by maximum needs a compiled mmcv: use pool_mode avg")


OFFERED: dict[str, Callable[..., Any]] = {
    "nms": nms,
    "softnms": softnms,
    "roi_align_forward": roi_align_forward,
    "roi_align_backward": roi_align_backward,
}
"""By mmcv's name; whatever else mmcv asks for raises when it is called."""

"""mmcv's operators through torchvision, under the names and argument orders that mmcv's Python calls them by."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import Tensor

from vitq.errors import UnsupportedError


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
    """Indices of the boxes [n, 4] that are kept, best score first; `offset` 1 counts both border pixels of a side."""
    shifted = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(shifted.float(), scores.float(), float(iou_threshold))


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
    """RoIAlign by averaging into `output` [n, C, h, w]; UnsupportedError for pooling by maximum."""
    if pool_mode != 1:
        raise UnsupportedError("RoIAlign by maximum needs a compiled mmcv: use pool_mode avg")
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
    if pool_mode != 1:
        raise UnsupportedError("RoIAlign by maximum needs a compiled mmcv: use pool_mode avg")
    b, c, h, w = grad_input.shape
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output,
            rois.to(grad_output.dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            b,
            c,
            h,
            w,
            sampling_ratio,
            aligned,
        )  # fmt: skip
    )


OFFERED: dict[str, Callable[..., Any]] = {
    "nms": nms,
    "roi_align_forward": roi_align_forward,
    "roi_align_backward": roi_align_backward,
}
"""By mmcv's name; whatever else mmcv asks for raises when it is called."""

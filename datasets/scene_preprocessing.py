"""How an image of any size becomes a detector's or a segmenter's input; said once, read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from vitq.subject import InputSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ScenePreprocessing:
    """Resize within `scale` keeping the shape, (pixel in 0..1 - mean) / std per channel, pad to `divisor`.

    `scale` [long side, short side] is the largest rectangle, in either orientation, that an image is fitted into by
    bilinear interpolation, as mmdet's and mmsegmentation's `Resize(keep_ratio=True)` do; None leaves images as they
    are. The right and the bottom of a batch are padded with zeros, of the normalized image, to a multiple of `divisor`.
    A segmenter reads the image `whole`, or in windows of `crop` [H, W] every `stride` [H, W] pixels whose logits are
    averaged where they overlap (`slide`). `size` [C, H, W] is the input that operations are counted at.
    """

    size: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: tuple[int, int] | None = None
    divisor: int = Field(default=1, ge=1)
    mode: Literal["whole", "slide"] = "whole"
    crop: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None

    @property
    def input(self) -> InputSpec:
        """What a method is told of it."""
        return InputSpec(self.size, self.mean, self.std)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels [..., C, H, W], uint8 RGB or 0..1, to normalized float32."""
        import torch

        scaled = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels
        mean, std = (torch.tensor(v, dtype=torch.float32).view(-1, 1, 1) for v in (self.mean, self.std))
        return scaled.sub(mean).div_(std)

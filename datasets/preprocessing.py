"""How an image becomes a model's input: resized, cropped and normalized; said once, read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from vitq.subject import InputSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Preprocessing:
    """Resize the short side to floor(size / crop_pct), crop the centre, (pixel in 0..1 - mean) / std per channel.

    `size` is [C, H, W]. `crop_mode` is timm's: `squash` resizes both sides, whatever their ratio, and `border` the long
    side, and fills what is missing.
    """

    size: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    crop_mode: Literal["center", "squash", "border"] = "center"

    @property
    def input(self) -> InputSpec:
        """What a method is told of it."""
        return InputSpec(self.size, self.mean, self.std)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels [B, C, H, W], uint8 or 0..1, to normalized float32."""
        import torch

        scaled = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return scaled.sub(mean).div_(std)

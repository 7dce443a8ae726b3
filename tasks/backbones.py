"""A detector's or segmenter's backbone as a runtime compiles it: one tensor in and one out, and back in its place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Features(nn.Module):
    """A backbone whose feature maps [B, C, H, W], one a level, are one tensor [B, numbers] side by side."""

    def __init__(self, backbone: nn.Module, images: Tensor) -> None:
        """`images` [B, 3, H, W] are run once, to know the maps' shapes."""
        super().__init__()
        self.backbone = backbone
        with torch.inference_mode():
            self.shapes = [each.shape[1:] for each in backbone(images)]

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> [B, numbers]."""
        return torch.cat([each.flatten(1) for each in self.backbone(images)], dim=1)

    def maps_of(self, run: Callable[[Tensor], Tensor]) -> nn.Module:
        """A module that gives the backbone's feature maps, computed by a compiled form of this one."""
        return _Maps(run, self.shapes)


class _Maps(nn.Module):
    def __init__(self, run: Callable[[Tensor], Tensor], shapes: list[torch.Size]) -> None:
        super().__init__()
        self.run, self.shapes = run, shapes

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        parts = torch.split(self.run(images), [shape.numel() for shape in self.shapes], dim=1)
        return tuple(part.reshape(len(part), *shape) for part, shape in zip(parts, self.shapes, strict=True))


def with_backbone(model: nn.Module, backbone: nn.Module) -> Any:
    """The same model, its other modules shared, with another backbone; the model itself is left as it is."""
    other = copy.copy(model)
    other._modules = {**model._modules, "backbone": backbone}
    return other

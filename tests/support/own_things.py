"""A user's own things: a small timm ViT that tells seven classes apart, images, and folders of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

CLASSES = ("beech", "birch", "fir", "larch", "oak", "pine", "yew")
SIDE = 32


def small_vit(**changes: object) -> nn.Module:
    """A ViT of timm's, small, with random weights and a head for seven classes, as fine-tuning leaves it."""
    torch.manual_seed(0)
    known = {"num_classes": len(CLASSES), "img_size": SIDE, "depth": 2, "embed_dim": 48, "num_heads": 3}
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", **(known | changes))
    return model


def images(n: int = 40, side: int = SIDE, seed: int = 0) -> Tensor:
    """Noise [n, 3, side, side], normalized."""
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def labelled(n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images and labels."""
    return images(n, seed=seed), torch.arange(n) % len(CLASSES)


def photographs(root: Path, each: int = 10, classes: tuple[str, ...] = CLASSES) -> Path:
    """A folder a class, of so many generated pictures each: a colour a class, with noise."""
    dice = np.random.default_rng(0)
    for number, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True)
        base = np.array([30 * number, 255 - 30 * number, 128], dtype=np.float64)
        for index in range(each):
            pixels = np.clip(base + dice.normal(0, 40, (48, 56, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:02}.jpg")
    return root


class Residual(nn.Module):
    """A model that no adapter knows."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = len(CLASSES)
        self.layer = nn.Linear(3 * SIDE * SIDE, self.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, SIDE, SIDE] -> [B, classes]."""
        out: Tensor = self.layer(x.flatten(1))
        return out

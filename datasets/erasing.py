"""Random erasing (arXiv 1708.04896) as timm does it: a rectangle of a training image becomes noise."""

from __future__ import annotations

from timm.data.random_erasing import RandomErasing

from vitq.datasets.images import Batch, seeded

ERASED_SHARE = 0.25
"""Of images, in the recipe of DeiT, Swin and I-ViT's released code; mode `pixel`, one rectangle."""


def erase(batch: Batch, seed: int, share: float = ERASED_SHARE) -> Batch:
    """In a `share` of the normalized images [B, C, H, W] a rectangle of 2 % to a third becomes N(0, 1) noise."""
    images, labels = batch
    erasing = RandomErasing(share, mode="pixel", max_count=1, device="cpu")  # type: ignore[no-untyped-call]
    with seeded(seed):
        return erasing(images.clone()), labels

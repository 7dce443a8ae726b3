"""Batches of images and labels: normalizing, seeding, erasing, mixing, and iterators that know their length."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import numpy as np
import torch
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from vitq.datasets.calibration import Calibration
from vitq.datasets.preprocessing import Preprocessing as Preprocessing

Batch = tuple[Tensor, Tensor]
"""Images [B, C, H, W], normalized, and labels: class indices [B], or class weights [B, classes] where mixed."""
Each = TypeVar("Each")
"""Whatever a task's batch is."""


class Counted(Iterator[Each], Generic[Each]):
    """An iterator that knows how many batches are to come (`operator.length_hint`), without starting to read."""

    def __init__(self, batches: Iterator[Each], count: int) -> None:
        self._batches, self._left = batches, count

    def __length_hint__(self) -> int:
        return self._left

    def __next__(self) -> Each:
        batch = next(self._batches)
        self._left -= 1
        return batch


def seed_of(*parts: object) -> int:
    """A 63-bit seed that depends on all parts and nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's global generators inside, and put them back after."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


ERASED_SHARE = 0.25
"""Of training images, in the recipes of DeiT, Swin and I-ViT's released code; mode `pixel`, one rectangle."""


def erase(batch: Batch, seed: int, share: float = ERASED_SHARE) -> Batch:
    """Random erasing (arXiv 1708.04896) as timm does it, on normalized images [B, C, H, W].

    In a `share` of them a rectangle of 2 % to a third of the image becomes N(0, 1) noise.
    """
    images, labels = batch
    erasing = RandomErasing(share, mode="pixel", max_count=1, device="cpu")  # type: ignore[no-untyped-call]
    with seeded(seed):
        return erasing(images.clone()), labels


def mix(batch: Batch, classes: int, seed: int, mixup: float = 0.8, cutmix: float = 1.0) -> Batch:
    """Mixup or CutMix (by these alphas, 0 for never) with label smoothing 0.1, as timm does.

    Labels become weights [B, classes]. An odd last image is dropped, for images are mixed in pairs.
    """
    images, labels = batch
    even = len(images) - len(images) % 2
    mixing = Mixup(mixup, cutmix, label_smoothing=0.1, num_classes=classes)  # type: ignore[no-untyped-call]
    with seeded(seed):
        mixed, weights = mixing(images[:even].clone(), labels[:even])
    return mixed, weights.float()


def training_epoch(batches: Iterator[Batch], images: int, spec: Calibration, classes: int, seed: int) -> Counted[Batch]:
    """An epoch of `images` images that knows its length, erased and mixed where `spec` asks for full augmentation.

    A single image left over cannot be mixed and is dropped there.
    """
    full, rest = divmod(images, spec.train_batch)
    if spec.augment != "full":
        return Counted(batches, full + (rest > 0))
    paired = ((i, batch) for i, batch in enumerate(batches) if len(batch[0]) > 1)
    erased = ((i, erase(batch, seed_of(seed, i, "erase"))) for i, batch in paired)
    return Counted((mix(batch, classes, seed_of(seed, i)) for i, batch in erased), full + (rest > 1))

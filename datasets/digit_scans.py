"""Images of the embedded digits: scikit-learn's scans as 32x32 RGB, in batches, jittered for training.

Each scan of 8x8 pixels of 0 to 16 is scaled to 0..1, enlarged four times by bilinear interpolation
(`align_corners=False`) and repeated over three channels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from vitq.datasets import digits
from vitq.datasets.base import Check, Data
from vitq.datasets.batches import Batch, Preprocessing, seed_of, training_epoch
from vitq.datasets.calibration import Calibration, warn_of_overlap
from vitq.datasets.identity import validation_sha256
from vitq.datasets.listing import Item, as_text

EVALUATION_BATCH = 200
SIZE = 32


@cache
def _scans() -> tuple[Tensor, Tensor]:
    raw = load_digits()
    return torch.from_numpy(raw.images / 16.0).float(), torch.from_numpy(raw.target).long()


def batches(chosen: Sequence[Item], batch: int) -> Iterator[Batch]:
    """Pixels [B, 3, 32, 32] in 0..1 and labels [B], in order; the last batch may be smaller."""
    pixels, labels = images([int(item.path) for item in chosen])
    return ((pixels[i : i + batch], labels[i : i + batch]) for i in range(0, len(labels), batch))


def training_batches(batch: int, seed: int, augment: bool) -> Iterator[Batch]:
    """One epoch of the training split, shuffled and jittered by the seed."""
    generator = torch.Generator().manual_seed(seed)
    pixels, labels = images(digits.splits()["train"])
    order = torch.randperm(len(labels), generator=generator)
    for chosen in (order[i : i + batch] for i in range(0, len(order), batch)):
        yield jitter(pixels[chosen], generator) if augment else pixels[chosen], labels[chosen]


def images(indices: list[int]) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 32, 32] with pixels in 0..1 and labels [N] of these indices into scikit-learn's order."""
    scans, labels = _scans()
    large = interpolate(scans[indices].unsqueeze(1), size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return large.repeat(1, 3, 1, 1), labels[indices]


def count() -> int:
    """Scans that scikit-learn ships."""
    return len(_scans()[1])


def sha256() -> str:
    """Of the scans' and labels' bytes (float32, int64) and of the split lists."""
    scans, labels = _scans()
    digest = hashlib.sha256(scans.numpy().tobytes() + labels.numpy().tobytes())
    digest.update(json.dumps(digits.splits(), sort_keys=True).encode())
    return digest.hexdigest()


def jitter(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale and shift each image [N, 3, 32, 32] at random; the background stays 0.

    Uniform: +-10 degrees, a scale of 0.92 to 1.08, a shift of +-1.5 pixels. More would leave what the scans are
    like, for each was stretched to fill its box.
    """
    n = pixels.shape[0]
    u = torch.rand(n, 4, generator=generator) * 2 - 1
    angle, scale, shift = u[:, 0] * math.radians(10), 1 + 0.08 * u[:, 1], u[:, 2:] * (2 * 1.5 / SIZE)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    return grid_sample(pixels, affine_grid(theta, list(pixels.shape), align_corners=False), align_corners=False)


def open_digits(how: Preprocessing, spec: Calibration, *, limit: int | None, seed: int) -> Data:
    """The digits as a model wants them; BadInputError where the calibration cannot be had."""
    chosen, calibrated = digits.limited(limit), digits.calibration(spec)
    overlap = len(set(calibrated) & set(chosen))
    warn_of_overlap(overlap, calibrated)

    def training(epoch: int) -> Iterator[Batch]:
        epoch_seed, images = seed_of("train", seed, epoch), len(digits.splits()["train"])
        plain = training_batches(spec.train_batch, epoch_seed, spec.augment != "none")
        return training_epoch(_normalized(plain, how), images, spec, digits.CLASSES, epoch_seed)

    return Data(
        calibration=lambda: _normalized(batches(calibrated, spec.batch), how),
        training=training,
        validation=lambda: _normalized(batches(chosen, EVALUATION_BATCH), how),
        n_validation=len(chosen),
        sha256=validation_sha256(chosen, digits.content(chosen)),
        subset=None if limit is None else as_text(chosen),
        calibration_list=as_text(calibrated),
        names=tuple(item.path for item in chosen),
        calibration_overlap=overlap,
    )


def _normalized(plain: Iterator[Batch], how: Preprocessing) -> Iterator[Batch]:
    return ((how.normalize(pixels), labels) for pixels, labels in plain)


def verify_digits() -> list[Check]:
    """The three splits of the digits share no scan, hold every scan, and every class is in each."""
    splits = digits.splits()
    members = [index for split in splits.values() for index in split]
    labels = {split: {item.label for item in digits.items(split)} for split in splits}
    counts = ", ".join(f"{split} {len(indices)}" for split, indices in splits.items())
    disjoint = len(set(members)) == len(members) == count()
    return [
        Check("digits: splits", disjoint, counts if disjoint else f"{counts}: scans are missing or in two splits"),
        Check(
            "digits: classes",
            all(len(found) == digits.CLASSES for found in labels.values()),
            ", ".join(f"{split} {len(found)}" for split, found in labels.items()),
        ),
    ]

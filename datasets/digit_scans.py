"""Images of the embedded digits: scikit-learn's scans drawn distorted, as 24x24 RGB, in batches.

Drawn in whole numbers (`digit_distortion` says of what), repeated over three channels, scaled to 0..1 at the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

from vitq.datasets import digits
from vitq.datasets.base import Check, Data
from vitq.datasets.batches import Batch, Preprocessing, seed_of, training_epoch
from vitq.datasets.calibration import Calibration, warn_of_overlap
from vitq.datasets.digit_distortion import ONE, SCAN, SIDE, Distortion, Layer
from vitq.datasets.identity import validation_sha256
from vitq.datasets.listing import Item, as_text
from vitq.errors import BadInputError

EVALUATION_BATCH = 200
Whole = NDArray[np.int32]
"""Wide enough: 16 x (2 x ONE)^2 x 255 is below 2^31."""


@cache
def scans() -> tuple[Whole, Tensor]:
    """Scans [1797, 8, 8] of 0 to 16 and labels [1797]."""
    raw = load_digits()
    return raw.images.astype(np.int32), torch.from_numpy(raw.target).long()


def batches(chosen: Sequence[Item], batch: int) -> Iterator[Batch]:
    """Pixels [B, 3, 24, 24] in 0..1 and labels [B], in order; the last batch may be smaller."""
    pixels, labels = images([int(item.path) for item in chosen])
    return ((pixels[i : i + batch], labels[i : i + batch]) for i in range(0, len(labels), batch))


def training_batches(batch: int, seed: int, augment: bool) -> Iterator[Batch]:
    """One epoch of the training split, shuffled by the seed; where augmented, distorted anew by it."""
    members = digits.splits()["train"]
    rank = {index: hashlib.sha256(f"digits:{seed}:{index}".encode()).digest() for index in members}
    order = sorted(members, key=rank.__getitem__)
    pixels, labels = images(order, seed if augment else None)
    return ((pixels[i : i + batch], labels[i : i + batch]) for i in range(0, len(order), batch))


def images(indices: Sequence[int], seed: int | None = None) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 24, 24] with pixels in 0..1 and labels [N] of these indices into scikit-learn's order.

    Without a seed as they are evaluated and calibrated on, by their index alone; with one distorted anew by it.
    """
    texts = [None if seed is None else f"digits:{seed}:{index}" for index in indices]
    drawn = draw([digits.distortion(index, text) for index, text in zip(indices, texts, strict=True)])
    pixels = torch.from_numpy(drawn).float().div_(255).unsqueeze(1)
    return pixels.repeat(1, 3, 1, 1), scans()[1][list(indices)]


def draw(distortions: Sequence[Distortion]) -> NDArray[np.uint8]:
    """Grey images [N, 24, 24]: paper, the darkest ink of any layer, and noise, cut at 0 and 255."""
    layers = zip(*(distortion.layers for distortion in distortions), strict=True)
    ink = np.maximum.reduce([ink_of(layer) for layer in layers])
    paper, noise = (
        np.array([getattr(each, name) for each in distortions], np.int32)[:, None, None] for name in ("paper", "noise")
    )
    grain = np.stack([np.frombuffer(_grain(each.grain), np.uint8) for each in distortions]).astype(np.int32)
    speckle = (grain.reshape(-1, SIDE, SIDE) * 2 - 255) * noise // 255
    drawn: NDArray[np.uint8] = np.clip(paper + ink + speckle, 0, 255).astype(np.uint8)
    return drawn


def _grain(name: str) -> bytes:
    return hashlib.shake_256(name.encode()).digest(SIDE * SIDE)


def ink_of(layers: Sequence[Layer], side: int = SIDE) -> Whole:
    """Ink [N, side, side] of one layer of each image: its scan between pixels by bilinear interpolation."""
    row, column = np.mgrid[0:side, 0:side].astype(np.int32) * 2 - (side - 1)  # half pixels from the centre
    of = {name: np.array([getattr(each, name) for each in layers], np.int32)[:, None, None] for name in vars(layers[0])}
    # Twice the coordinates, from the centre of the first scan pixel.
    u = of["xx"] * column + of["xy"] * row + 2 * of["x0"] - ONE
    v = of["yx"] * column + of["yy"] * row + 2 * of["y0"] - ONE
    unit = 2 * ONE
    (left, right), (top, bottom) = ((part // unit, part % unit) for part in (u, v))
    total = np.zeros_like(u)
    for down, weight_down in ((0, unit - bottom), (1, bottom)):
        for along, weight_along in ((0, unit - right), (1, right)):
            total += weight_down * weight_along * _values(of, top + down, left + along)
    ink: Whole = total * of["ink"] // (16 * unit * unit)
    return ink


def _values(of: dict[str, Whole], row: Whole, column: Whole) -> Whole:
    """The scans' values at whole places, 0 outside of the layers' squares."""
    inside = (row >= of["top"]) & (row < of["top"] + of["side"])
    inside &= (column >= of["left"]) & (column < of["left"] + of["side"])
    values: Whole = scans()[0][of["scan"], row.clip(0, SCAN - 1), column.clip(0, SCAN - 1)] * inside
    return values


def count() -> int:
    """Scans that scikit-learn ships."""
    return len(scans()[1])


def sha256() -> str:
    """Of all images as they are evaluated and calibrated on (their pixels), their labels and the split lists."""
    pixels = draw([digits.distortion(index) for index in range(count())])
    digest = hashlib.sha256(pixels.tobytes() + scans()[1].numpy().tobytes())
    digest.update(json.dumps(digits.splits(), sort_keys=True).encode())
    return digest.hexdigest()


def open_digits(how: Preprocessing, spec: Calibration, *, limit: int | None, seed: int) -> Data:
    """The digits as a model wants them; BadInputError where the calibration, or images of its size, cannot be had."""
    if how.size != (3, SIDE, SIDE):
        wanted = "x".join(map(str, how.size))
        raise BadInputError(f"the digits are images of 3x{SIDE}x{SIDE}, and the model takes {wanted}: give other data")
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
        batch=EVALUATION_BATCH,
        between=lambda first, end: _normalized(
            batches(chosen[first * EVALUATION_BATCH : end * EVALUATION_BATCH], EVALUATION_BATCH), how
        ),
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

"""The embedded digits: 1,797 real scans of handwritten digits that come with scikit-learn, as 32x32 RGB.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998), CC BY 4.0, the copy in
`sklearn.datasets.load_digits`: 8x8 pixels of 0 to 16. Each is scaled to 0..1, enlarged four times by bilinear
interpolation (`align_corners=False`) and repeated over three channels.

`digits_splits.json` fixes who is who: 600 images for validation and 128 for calibration, stratified by class with
largest-remainder quotas, the members of each class picked by the order of sha256("digits:0:<index>"); 1,069 to train.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from vitq.datasets.calibration import Calibration, read_list
from vitq.datasets.images import Batch
from vitq.datasets.listing import Item, draw
from vitq.errors import BadInputError

CLASSES = 10
SIZE = 32


@cache
def splits() -> dict[str, list[int]]:
    """Indices into scikit-learn's order by split: `train`, `calibration`, `validation`."""
    text = resources.files("vitq.datasets").joinpath("digits_splits.json").read_text(encoding="utf-8")
    lists: dict[str, list[int]] = json.loads(text)
    return lists


@cache
def _scans() -> tuple[Tensor, Tensor]:
    raw = load_digits()
    return torch.from_numpy(raw.images / 16.0).float(), torch.from_numpy(raw.target).long()


def items(split: str) -> list[Item]:
    """The scans of a split, named by their index; BadInputError for a split that is not there."""
    if split not in splits():
        raise BadInputError(f"the digits have no split {split!r}; known: {', '.join(splits())}")
    labels = _scans()[1]
    return [Item(str(index), int(labels[index])) for index in splits()[split]]


def calibration(spec: Calibration) -> list[Item]:
    """The scans to calibrate on, in order: drawn from the calibration split by the seed, or by index from a file."""
    if spec.list == "seeded":
        chosen = draw(items(spec.split or "calibration"), spec.images, spec.seed)
    elif spec.list == "attribution":
        raise BadInputError("calibration: the digits have no ATTRIBUTION.csv; use list: seeded")
    else:
        named = {item.path: item for split in splits() for item in items(split)}
        names = read_list(Path(spec.list))[: spec.images]
        for name in names:
            if name not in named:
                raise BadInputError(
                    f"calibration: {spec.list} names {name!r}, but digits are indices 0 to {len(named) - 1}"
                )
        chosen = [named[name] for name in names]
    if len(chosen) < spec.images:
        raise BadInputError(
            f"calibration: {spec.images} digits asked for, but {spec.list} has {len(chosen)}: ask fewer"
        )
    return chosen


def batches(chosen: Sequence[Item], batch: int) -> Iterator[Batch]:
    """Pixels [B, 3, 32, 32] in 0..1 and labels [B], in order; the last batch may be smaller."""
    pixels, labels = images([int(item.path) for item in chosen])
    return ((pixels[i : i + batch], labels[i : i + batch]) for i in range(0, len(labels), batch))


def training_batches(batch: int, seed: int, augment: bool) -> Iterator[Batch]:
    """One epoch of the training split, shuffled and jittered by the seed."""
    generator = torch.Generator().manual_seed(seed)
    pixels, labels = images(splits()["train"])
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
    digest.update(json.dumps(splits(), sort_keys=True).encode())
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

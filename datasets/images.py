"""Reading image files in parallel into deterministic batches; a file that cannot be read is an error with its name.

Workers hand over uint8 pixels and the reading process normalizes: a quarter of the shared memory, the same bits as
normalizing in the worker.
"""

from __future__ import annotations

import hashlib
import os
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.mixup import Mixup
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitq.datasets.listing import Item
from vitq.errors import BadInputError

Batch = tuple[Tensor, Tensor]
"""Images [B, C, H, W], normalized, and labels: class indices [B], or class weights [B, classes] where mixed."""


@dataclass(frozen=True)
class Preprocessing:
    """Resize the short side to floor(size / crop_pct), crop the centre, (pixel in 0..1 - mean) / std per channel."""

    size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 0.875
    interpolation: str = "bicubic"

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels [B, C, H, W], uint8 or 0..1, to normalized float32."""
        scaled = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return scaled.sub(mean).div_(std)


def transform(how: Preprocessing, augment: str) -> Callable[[Image.Image], Tensor]:
    """timm's transform up to uint8 pixels [C, H, W].

    `augment`: `eval` and `none` are the validation transform, `light` adds a horizontal flip, `full` is what ViTs are
    usually trained with in timm: random resized crop, flip, colour jitter, RandAugment by rand-m9-mstd0.5-inc1 (I-ViT's
    released recipe has the same); on the normalized images follow `erasing.erase` and `mix`.
    """
    common: dict[str, Any] = {"interpolation": how.interpolation, "mean": how.mean, "std": how.std}
    common["use_prefetcher"] = True  # timm's word for leaving normalization to the reader
    if augment == "full":
        chosen = create_transform(how.size, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", **common)
    else:
        chosen = create_transform(how.size, is_training=False, crop_pct=how.crop_pct, **common)

    def change(image: Image.Image) -> Tensor:
        pixels = torch.as_tensor(chosen(image))
        return pixels.flip(-1) if augment == "light" and random.random() < 0.5 else pixels

    return change


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


class Counted(Iterator[Batch]):
    """An iterator that knows how many batches are to come (`operator.length_hint`), without starting to read."""

    def __init__(self, batches: Iterator[Batch], count: int) -> None:
        self._batches, self._left = batches, count

    def __length_hint__(self) -> int:
        return self._left

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self._left -= 1
        return batch


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, and why."""

    path: str
    reason: str


def decode(path: Path) -> Image.Image:
    """The image as RGB; OSError where it is truncated or no image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged EXIF does not touch the pixels
        with Image.open(path) as image:
            return image.convert("RGB")


def try_decode(root: Path, item: Item) -> Image.Image | Unreadable:
    """The image, or why it cannot be read."""
    try:
        return decode(root / item.path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return Unreadable(item.path, (str(error).splitlines() or [type(error).__name__])[0])


class _Files(Dataset[Any]):
    """Pixels and label of each item, its random choices seeded by `seed` and the item's own name."""

    def __init__(
        self, root: Path, items: Sequence[Item], change: Callable[[Image.Image], Tensor], seed: int | None
    ) -> None:
        self.root, self.items, self.change, self.seed = root, list(items), change, seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Unreadable:
        item = self.items[index]
        image = try_decode(self.root, item)
        if isinstance(image, Unreadable):
            return image
        if self.seed is None:
            return self.change(image), item.label
        with seeded(seed_of(self.seed, item.path)):
            return self.change(image), item.label


def _collate(samples: list[tuple[Tensor, int] | Unreadable]) -> Batch | list[Unreadable]:
    bad = [sample for sample in samples if isinstance(sample, Unreadable)]
    if bad:
        return bad
    good = [sample for sample in samples if not isinstance(sample, Unreadable)]
    return torch.stack([pixels for pixels, _ in good]), torch.tensor([label for _, label in good])


def unreadable(root: Path, bad: Sequence[Unreadable]) -> BadInputError:
    """One line that names the files (three at most) and what is wrong with the first."""
    names = ", ".join(str(root / one.path) for one in bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
    return BadInputError(f"cannot read {names}: {bad[0].reason}; fetch the file again")


def default_workers() -> int:
    """One process a core that this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores)


def read_batches(
    root: Path,
    items: Sequence[Item],
    how: Preprocessing,
    batch: int,
    *,
    workers: int | None = None,
    augment: str = "eval",
    seed: int | None = None,
) -> Iterator[Batch]:
    """Batches of normalized images and labels in the order of `items`; the last may be smaller.

    The same batches for every number of workers. BadInputError names files that cannot be read.
    """
    wanted = default_workers() if workers is None else workers
    files = _Files(root, items, transform(how, augment), seed)
    loader = DataLoader(
        files,
        batch_size=batch,
        shuffle=False,
        num_workers=min(wanted, len(items) // 16),
        collate_fn=_collate,
        generator=torch.Generator(),  # else every pass draws from the global generator
    )
    for content in loader:
        if isinstance(content, list) and isinstance(content[0], Unreadable):
            raise unreadable(root, content)
        pixels, labels = content
        yield how.normalize(pixels), labels


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

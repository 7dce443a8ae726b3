"""Reading images: the same batches for every number of workers, and bad files by name."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.data.transforms_factory import create_transform

from vitq.datasets.batches import Preprocessing, mix
from vitq.datasets.decoding import decode
from vitq.datasets.imagenet import listing
from vitq.datasets.images import read_batches
from vitq.errors import BadInputError

HOW = Preprocessing((3, 32, 32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.875, "bicubic")


def same(left: list, right: list) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


def test_batches_are_what_timm_makes(folder: Path) -> None:
    items = listing(folder, "val")
    transform = create_transform((3, 32, 32), interpolation="bicubic", crop_pct=0.875, mean=HOW.mean, std=HOW.std)
    wanted = torch.stack([transform(decode(folder / item.path)) for item in items])
    batches = list(read_batches(folder, items, HOW, 5, workers=0))
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    assert torch.equal(torch.cat([images for images, _ in batches]), wanted)
    assert torch.cat([labels for _, labels in batches]).tolist() == [item.label for item in items]


@pytest.mark.parametrize("augment", ["light", "full"])
def test_workers_change_nothing(folder: Path, augment: str) -> None:
    items = listing(folder, "train")
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    alone = list(read_batches(folder, items, HOW, 16, workers=0, augment=augment, seed=5))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert same(alone, list(read_batches(folder, items, HOW, 16, workers=2, augment=augment, seed=5)))
    assert not same(alone, list(read_batches(folder, items, HOW, 16, workers=0, augment=augment, seed=6)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_file_is_named(folder: Path, workers: int) -> None:
    items = listing(folder, "train")
    victim = folder / items[40].path
    victim.write_bytes(victim.read_bytes()[:900])
    with pytest.raises(BadInputError) as error:
        list(read_batches(folder, items, HOW, 8, workers=workers))
    assert str(victim) in str(error.value)
    assert "\n" not in str(error.value)


def test_several_bad_files_are_counted(folder: Path) -> None:
    items = listing(folder, "val")
    for item in items[:5]:
        (folder / item.path).write_bytes(b"not an image")
    (folder / items[5].path).unlink()
    with pytest.raises(BadInputError, match="and 3 more"):
        list(read_batches(folder, items, HOW, 12, workers=0))


def test_mixing_is_seeded_and_keeps_the_weight_of_a_label() -> None:
    images, labels = torch.rand(7, 3, 8, 8), torch.arange(7)
    mixed, weights = mix((images, labels), 10, 3)
    again, _ = mix((images, labels), 10, 3)
    assert torch.equal(mixed, again)
    assert mixed.shape == (6, 3, 8, 8)
    assert torch.allclose(weights.sum(1), torch.ones(6))
    assert not torch.equal(mixed, mix((images, labels), 10, 4)[0])

"""The embedded digits: real scans, fixed splits, seeded training batches."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from vitq.datasets import digit_scans, digits
from vitq.datasets.calibration import Calibration
from vitq.errors import BadInputError


def test_the_splits_are_all_the_scans_once_and_stratified() -> None:
    splits = digits.splits()
    assert {split: len(indices) for split, indices in splits.items()} == {
        "train": 1069,
        "calibration": 128,
        "validation": 600,
    }
    assert sorted(i for indices in splits.values() for i in indices) == list(range(1797))
    whole = Counter(load_digits().target.tolist())
    for split, indices in splits.items():
        counts = Counter(item.label for item in digits.items(split))
        assert all(abs(counts[c] - whole[c] * len(indices) / 1797) < 2 for c in range(10))


def test_images_are_the_scans_enlarged() -> None:
    pixels, labels = digit_scans.images([0, 5, 1796])
    raw = load_digits()
    assert pixels.shape == (3, 3, 32, 32)
    assert labels.tolist() == raw.target[[0, 5, 1796]].tolist()
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    blocks = pixels[:, 0].reshape(3, 8, 4, 8, 4)[:, :, 1:3, :, 1:3].mean(dim=(2, 4)).numpy() * 16
    assert np.corrcoef(blocks.ravel(), raw.images[[0, 5, 1796]].ravel())[0, 1] > 0.99


def test_training_batches_follow_from_their_seed() -> None:
    first, again, other = (list(digit_scans.training_batches(256, seed, True)) for seed in (1, 1, 2))
    assert sum(len(labels) for _, labels in first) == 1069
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    plain = list(digit_scans.training_batches(256, 1, False))
    assert torch.equal(torch.cat([b[1] for b in plain]).sort().values, torch.cat([b[1] for b in first]).sort().values)


def test_calibration_is_drawn_from_its_own_split(tmp_path: Path) -> None:
    drawn = digits.calibration(Calibration(images=32, seed=1))
    assert {int(item.path) for item in drawn} <= set(digits.splits()["calibration"])
    assert drawn != digits.calibration(Calibration(images=32, seed=2))
    (tmp_path / "list.txt").write_text("".join(f"{item.path}\n" for item in drawn))
    assert digits.calibration(Calibration(images=32, list=str(tmp_path / "list.txt"))) == drawn


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (Calibration(images=129), "ask fewer"),
        (Calibration(split="test"), "no split 'test'"),
        (Calibration(list="attribution"), "no ATTRIBUTION"),
    ],
)
def test_what_the_digits_cannot_give(spec: Calibration, word: str) -> None:
    with pytest.raises(BadInputError, match=word):
        digits.calibration(spec)


def test_an_index_that_is_no_scan_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("1797\n")
    with pytest.raises(BadInputError, match="'1797'"):
        digits.calibration(Calibration(images=1, list=str(tmp_path / "list.txt")))

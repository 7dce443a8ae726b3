"""The embedded digits: real scans, distorted by hash, fixed splits, seeded training batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from vitq.datasets import digit_scans, digits
from vitq.datasets.calibration import Calibration
from vitq.datasets.digit_distortion import ONE, Distortion, Layer
from vitq.datasets.preprocessing import Preprocessing
from vitq.errors import BadInputError

PIXELS = "6c18979d98e9f90c9ddedf4f42458813cd642b5cbe84d350f083e263be0602d8"
"""Of all images, their labels and the splits."""


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


def upright(scan: int) -> Distortion:
    """A scan alone, enlarged three times (but for the rounding of 256 / 3), without turning, paper or noise."""
    step = ONE // 3
    x0 = 4 * ONE
    return Distortion((Layer(scan, 0, 0, 8, step, 0, 0, step, x0, x0, 255),), 0, 0, "none")


def test_images_are_real_scans_enlarged() -> None:
    drawn = digit_scans.draw([upright(scan) for scan in (0, 5, 1796)])
    assert drawn.shape == (3, 24, 24)
    middles = drawn[:, 1::3, 1::3].astype(int)
    assert np.abs(middles - load_digits().images[[0, 5, 1796]] * 255 / 16).max() < 6


def test_a_layer_is_turned_moved_and_cut_to_its_square() -> None:
    whole, quarter = upright(5), upright(5)
    turned = replace(whole, layers=(replace(whole.layers[0], xx=0, xy=ONE // 3, yx=-ONE // 3, yy=0),))
    first, second = digit_scans.draw([whole]), digit_scans.draw([turned])
    assert np.abs(np.rot90(first[0], k=-1).astype(int) - second[0]).max() < 12
    moved = replace(whole, layers=(replace(whole.layers[0], x0=3 * ONE),))
    assert np.abs(digit_scans.draw([moved])[0, :, 3:].astype(int) - first[0, :, :-3]).max() < 12
    cut = replace(quarter, layers=(replace(quarter.layers[0], side=4),))
    drawn = digit_scans.draw([cut])[0]
    assert drawn[:10, :10].max() > 100
    assert drawn[14:].max() == drawn[:, 14:].max() == 0


def test_paper_and_noise_are_as_said() -> None:
    noisy = [replace(upright(0), layers=(replace(upright(0).layers[0], ink=0),), paper=30, noise=20, grain="a")]
    drawn = digit_scans.draw(noisy).astype(int)
    assert 10 <= drawn.min() <= 12
    assert 48 <= drawn.max() <= 50
    assert abs(drawn.mean() - 30) < 2


def test_images_are_the_same_on_every_machine() -> None:
    """Whole numbers from a hash: nothing is rounded that a processor or a version could round otherwise."""
    assert digit_scans.sha256() == PIXELS
    pixels, labels = digit_scans.images([0, 5, 1796])
    assert pixels.shape == (3, 3, 24, 24)
    assert labels.tolist() == load_digits().target[[0, 5, 1796]].tolist()
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert torch.equal(pixels, digit_scans.images([5, 0, 1796])[0][[1, 0, 2]])


def test_clutter_is_of_the_training_split_alone() -> None:
    train = set(digits.splits()["train"])
    for index in range(1797):
        *clutter, digit = digits.distortion(index).layers
        assert digit.scan == index
        assert {layer.scan for layer in clutter} <= train


def test_the_content_of_an_image_is_what_it_is_drawn_of(monkeypatch: pytest.MonkeyPatch) -> None:
    items = digits.items("validation")
    before = digits.content(items)
    assert len(set(before)) == len(items)
    drawn = digits.distort
    monkeypatch.setattr(digits, "distort", lambda scan, clutter, text: replace(drawn(scan, clutter, text), noise=1))
    assert not set(digits.content(items)) & set(before)


def test_training_batches_follow_from_their_seed() -> None:
    first, again, other = (list(digit_scans.training_batches(256, seed, True)) for seed in (1, 1, 2))
    assert sum(len(labels) for _, labels in first) == 1069
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    plain = list(digit_scans.training_batches(256, 1, False))
    assert all(torch.equal(a[1], b[1]) and not torch.equal(a[0], b[0]) for a, b in zip(plain, first, strict=True))
    shown = torch.cat([pixels for pixels, _ in plain]).flatten(1).sum(1).sort().values
    kept = digit_scans.images(digits.splits()["train"])[0].flatten(1).sum(1).sort().values
    assert torch.equal(shown, kept)


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


def test_a_model_of_another_size_is_told_so() -> None:
    how = Preprocessing((3, 224, 224), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(BadInputError, match="are images of 3x24x24, and the model takes 3x224x224"):
        digits.DIGITS.open(how, Calibration(), {}, limit=None, seed=0, workers=0)

"""Images in memory and loaders of them: what they calibrate, evaluate and train on, and what is refused."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vitq.datasets.base import Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.in_memory import in_memory
from vitq.datasets.preprocessing import Preprocessing
from vitq.errors import BadInputError

HOW = Preprocessing((3, 8, 8), (0.5,) * 3, (0.25,) * 3)
IMAGES = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 7


def opened(data: Any, **words: Any) -> Data:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return in_memory(data, HOW, **words)


def joined(batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def loader(shuffle: bool = False) -> DataLoader[Any]:
    return DataLoader(TensorDataset(IMAGES, LABELS), batch_size=9, shuffle=shuffle)


@pytest.mark.parametrize(
    "data",
    [(IMAGES, LABELS), [IMAGES, LABELS], {"pixel_values": IMAGES, "labels": LABELS}, loader(), list(loader())],
    ids=["pair", "list", "mapping", "loader", "batches"],
)
def test_all_shapes_give_the_same(data: Any) -> None:
    made = opened(data, batch=16)
    images, labels = joined(made.validation())
    assert torch.equal(images, IMAGES)
    assert torch.equal(labels, LABELS)
    assert torch.equal(joined(made.calibration())[0], IMAGES[:32])
    assert made.calibration_list == "".join(f"{i}\n" for i in range(32))
    assert made.sha256 == opened((IMAGES, LABELS)).sha256
    assert (made.n_validation, made.calibration_overlap, made.names[:2]) == (40, 32, ("0", "1"))
    assert torch.equal(joined(made.validation())[0], images), "again"


def test_labels_and_pixels_decide_identity() -> None:
    changed = IMAGES.clone()
    changed[3, 0, 0, 0] += 1
    seen = {opened(data).sha256 for data in ((IMAGES, LABELS), (IMAGES, LABELS.flip(0)), (changed, LABELS))}
    assert len(seen) == 3


def test_pixels_are_normalized_and_numbers_are_not() -> None:
    pixels = (torch.rand(4, 3, 8, 8) * 255).to(torch.uint8)
    assert torch.allclose(joined(opened(pixels).calibration())[0], HOW.normalize(pixels))
    assert torch.equal(joined(opened(IMAGES.half()).calibration())[0], IMAGES[:32].half().float())


def test_images_alone_calibrate_and_are_not_evaluated() -> None:
    made = opened(IMAGES)
    assert joined(made.calibration())[0].shape == (32, 3, 8, 8)
    assert (made.n_validation, made.training) == (0, None)
    with pytest.raises(BadInputError, match="it has no labels"):
        next(made.validation())


def test_what_is_given_to_calibrate_on_is_read_no_further() -> None:
    def endless() -> Iterator[Tensor]:
        while True:
            yield torch.randn(5, 3, 8, 8)

    made = in_memory(endless(), HOW, use="calibration", calibration=Calibration(images=12, batch=5))
    assert [len(images) for images, _ in made.calibration()] == [5, 5, 2]
    assert torch.equal(joined(made.calibration())[0], joined(made.calibration())[0])
    with pytest.raises(BadInputError, match="given to calibrate on"):
        next(made.validation())


def test_what_is_given_to_evaluate_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = in_memory((IMAGES, LABELS), HOW, use="evaluation")
    assert list(made.calibration()) == []
    with pytest.warns(UserWarning, match="32 of 32 calibration images are among the images evaluated"):
        in_memory((IMAGES, LABELS), HOW)


def test_a_seeded_draw_is_of_all_images() -> None:
    spec = {"list": "seeded", "images": 8}
    drawn = opened((IMAGES, LABELS), calibration=Calibration.parse({**spec, "seed": 1})).calibration_list
    other = opened((IMAGES, LABELS), calibration=Calibration.parse({**spec, "seed": 2})).calibration_list
    assert drawn != other
    assert len(set(drawn.split())) == 8


def test_an_iterator_that_can_be_read_once_is_kept() -> None:
    made = opened(iter(list(loader())))
    assert torch.equal(joined(made.validation())[0], joined(made.validation())[0])


def test_a_loader_that_shuffles_is_found_out() -> None:
    made = opened(loader(shuffle=True))
    with pytest.raises(BadInputError, match="shuffle=False"):
        joined(made.validation())


def test_a_pair_is_trained_on_in_another_order_each_epoch() -> None:
    made = opened((IMAGES, LABELS), calibration=Calibration(train_batch=16))
    assert made.training is not None
    one, again, other = (joined(made.training(epoch))[1] for epoch in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(one.sort().values, LABELS.sort().values)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (torch.randn(4, 3, 9, 8), r"\[4 x 3 x 9 x 8\], but the model wants \[N, 3, 8, 8\]"),
        (torch.randn(3, 8, 8), "the model wants"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.int64), "give floating point"),
        ((IMAGES, LABELS[:5]), "40 images, but 5 labels"),
        ((IMAGES, LABELS.float()), "give a class index an image"),
        ((IMAGES, LABELS + 4), "a label is 10: .* the model tells 7 apart"),
        ((IMAGES, LABELS - 1), "a label is -1"),
        (torch.empty(0, 3, 8, 8), "no images"),
        ([], "no images"),
        (7, "data is a int"),
        (["cat.jpg"], "a batch is a str"),
        ([(IMAGES, LABELS, LABELS)], "a batch is a tuple"),
    ],
)
def test_bad_data_is_one_line(data: Any, word: str) -> None:
    with pytest.raises(BadInputError, match=word) as error:
        in_memory(data, HOW, classes=7)
    assert "\n" not in str(error.value)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 20), st.integers(1, 7), st.integers(1, 7))
def test_how_batches_are_cut_changes_nothing(count: int, one: int, other: int) -> None:
    images, labels = IMAGES[:count], LABELS[:count]
    cut = list(zip(images.split(other), labels.split(other), strict=True))
    left, right = opened((images, labels), batch=one), opened(itertools.chain(cut), batch=one)
    assert left.sha256 == right.sha256
    assert torch.equal(joined(left.validation())[0], joined(right.validation())[0])

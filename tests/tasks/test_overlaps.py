"""mIoU against mmseg's own functions, and label maps that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from dense_results import label_maps, overlaps

from vitq.errors import BadInputError
from vitq.outcomes import Overlaps
from vitq.tasks.overlaps import mean_iou, overlap


@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_mmseg(seed: int) -> None:
    mm = pytest.importorskip("vitq.mm")
    if mm.why_absent():
        pytest.skip(mm.why_absent())
    mm.prepare()
    import torch
    from mmseg.evaluation.metrics import IoUMetric

    maps = label_maps(np.random.default_rng(seed), 6, 7, 0.6)
    parts = [IoUMetric.intersect_and_union(torch.tensor(a), torch.tensor(b), 7, 255) for a, b in maps]
    totals = [sum(column).double() for column in zip(*parts, strict=True)]
    theirs = IoUMetric.total_area_to_metrics(*totals, ["mIoU"])
    ours = mean_iou(overlaps(maps, 7))
    for name, key in (("miou", "IoU"), ("macc", "Acc"), ("aacc", "aAcc")):
        assert ours[name].value == pytest.approx(100 * float(np.nanmean(theirs[key])), abs=1e-9)
        assert ours[name].n == 6
        assert 0 < (ours[name].stderr or 0) < 10


def test_a_class_that_is_only_predicted_lowers_miou_and_one_that_is_nowhere_does_not() -> None:
    counted = overlap(np.array([[0, 1], [2, 2]]), np.array([[0, 1], [1, 255]]), 4)
    assert [each.tolist() for each in counted] == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 2, 0, 0]]
    ours = mean_iou(Overlaps(*(each[None] for each in counted)))
    assert ours["miou"].value == pytest.approx(100 * (1 + 1 / 2 + 0) / 3)
    assert ours["macc"].value == pytest.approx(100 * (1 + 1 / 2) / 2)
    assert ours["aacc"].value == pytest.approx(100 * 2 / 3)
    assert ours["miou"].stderr is None, "one image"


def test_the_truth_as_prediction_is_100() -> None:
    maps = [(np.where(b == 255, 0, b), b) for _, b in label_maps(np.random.default_rng(0), 5, 6, 0.5)]
    assert [each.value for each in mean_iou(overlaps(maps, 6)).values()] == [100.0] * 3


def test_maps_without_a_label_have_no_metric() -> None:
    assert mean_iou(overlaps([(np.zeros((3, 3), int), np.full((3, 3), 255))] * 2, 4)) == {}


@pytest.mark.parametrize(
    ("prediction", "truth", "reason"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "3 x 2 for a prediction of 2 x 3"),
        (np.zeros((2, 2), int), np.full((2, 2), 4), "label map with label 4, of 4 classes"),
        (np.full((2, 2), 4), np.zeros((2, 2), int), "prediction with label 4, of 4 classes"),
    ],
)
def test_maps_that_do_not_fit_are_bad_input(prediction: np.ndarray, truth: np.ndarray, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        overlap(prediction, truth, 4)

"""Average precision against faster-coco-eval's and pycocotools' own, and what must hold whatever was found."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
from dense_results import CATEGORIES, SIDE, detections, truth
from hypothesis import given, settings
from hypothesis import strategies as st

from vitq.errors import BadInputError
from vitq.outcomes import Matches
from vitq.tasks.average_precision import Found, average_precision, run_lengths

pytest.importorskip("faster_coco_eval")
NAMES = ("ap", "ap50", "ap75", "ap_s", "ap_m", "ap_l")


def results(found: list[Found], kind: str) -> list[dict[str, Any]]:
    """COCO's results of boxes or of masks, in the order of the images."""
    rows: list[dict[str, Any]] = []
    for each in found:
        assert each.masks is not None
        for box, score, label, mask in zip(each.boxes, each.scores, each.labels, each.masks, strict=True):
            row = {"image_id": each.image_id, "category_id": CATEGORIES[label], "score": float(score)}
            x0, y0, x1, y1 = (float(side) for side in box)
            shape = {"bbox": [x0, y0, x1 - x0, y1 - y0]} if kind == "bbox" else {"segmentation": run_lengths(mask)}
            rows.append(row | shape)
    return rows


def stats_of(library: str, file: dict[str, Any], found: list[Found], kind: str) -> list[float]:
    """The first six statistics of a library, in percent."""
    if library == "pycocotools":
        pytest.importorskip("pycocotools")
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    coco = COCO()
    coco.dataset = copy.deepcopy(file) | {"info": {}}
    coco.createIndex()
    judged = COCOeval(coco, coco.loadRes(results(found, kind)), kind)
    judged.params.imgIds = sorted(each.image_id for each in found)
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return [100 * float(value) for value in judged.stats[:6]]


@pytest.mark.parametrize("library", ["faster_coco_eval", "pycocotools"])
@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_the_libraries(library: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    file = truth(rng, 25)
    found = detections(rng, file)
    ours = average_precision(file, found)
    for by, kind in (("box", "bbox"), ("mask", "segm")):
        theirs = stats_of(library, file, found, kind)
        assert [ours[f"{by}_{name}"].value for name in NAMES] == pytest.approx(theirs, abs=1e-9)
        assert all(5 < value < 95 for value in theirs[:3]), "values that say something"


def test_an_image_has_a_hundred_things_of_a_category() -> None:
    rng = np.random.default_rng(7)
    file = truth(rng, 3)
    file["annotations"] = [each | {"category_id": 3} for each in file["annotations"]]
    found = []
    for each in detections(rng, file):
        again = np.concatenate([each.boxes, *[each.boxes + rng.normal(0, 1, each.boxes.shape) for _ in range(40)]])
        many = len(again)
        assert each.masks is not None
        masks = list(each.masks) * 41
        found.append(Found(each.image_id, again, rng.random(many).astype(np.float32), np.zeros(many, int), masks))
    assert max(len(each.scores) for each in found) > 150
    ours = average_precision(file, found)
    theirs = stats_of("faster_coco_eval", file, found, "bbox")
    assert [ours[f"box_{n}"].value for n in NAMES if f"box_{n}" in ours] == pytest.approx(
        [t for t in theirs if t >= 0], abs=1e-9
    )


def test_of_some_images_alone_the_others_are_no_misses() -> None:
    rng = np.random.default_rng(1)
    file = truth(rng, 20)
    found = detections(rng, file)[3:9]
    ours = average_precision(file, found)
    assert ours["box_ap"].value == pytest.approx(stats_of("faster_coco_eval", file, found, "bbox")[0], abs=1e-9)
    assert ours["box_ap"].n == 6


def perfect(file: dict[str, Any]) -> list[Found]:
    """What is there, found with full certainty."""
    from faster_coco_eval.core import mask

    found = []
    for image in file["images"]:
        own = [each for each in file["annotations"] if each["image_id"] == image["id"]]
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (each["bbox"] for each in own)]
        labels = [CATEGORIES.index(each["category_id"]) for each in own]
        shapes = [mask.segmToRle(each["segmentation"], SIDE, SIDE) for each in own]
        found.append(Found(image["id"], np.array(boxes), np.ones(len(own)), np.array(labels, dtype=int), shapes))
    return found


def test_the_truth_as_predictions_has_every_metric_at_100() -> None:
    file = truth(np.random.default_rng(4), 20)
    ours = average_precision(file, perfect(file))
    assert set(ours) == {f"{by}_{name}" for by in ("box", "mask") for name in NAMES}
    assert [each.value for each in ours.values()] == pytest.approx([100.0] * 12)
    assert [each.stderr for each in ours.values()] == pytest.approx([0.0] * 12)


def test_an_area_without_anything_has_no_metric_and_boxes_alone_have_no_masks() -> None:
    file = truth(np.random.default_rng(4), 20)
    file["annotations"] = [each for each in file["annotations"] if each["area"] > 32**2]
    found = [dataclasses.replace(each, masks=None) for each in perfect(file)]
    assert set(average_precision(file, found)) == {"box_ap", "box_ap50", "box_ap75", "box_ap_m", "box_ap_l"}
    assert average_precision(file | {"annotations": []}, found) == {}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_values_are_shares_and_the_order_of_images_says_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    file = truth(rng, int(rng.integers(1, 12)))
    found = detections(rng, file)
    ours = average_precision(file, found)
    assert all(0 <= each.value <= 100 for each in ours.values())
    shuffled = average_precision(file, [found[i] for i in rng.permutation(len(found))])
    assert {name: each.value for name, each in ours.items()} == {name: each.value for name, each in shuffled.items()}


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_a_resample_is_worth_what_its_images_are_worth(seed: int) -> None:
    """An image drawn twice counts as two images of the same content; without ties, for those have an order."""
    rng = np.random.default_rng(seed)
    file = truth(rng, 8)
    found = detections(rng, file, ties=False)
    drawn = rng.integers(0, 8, 8).tolist()
    copied, again = copies(file, found, drawn)
    apart = average_precision(copied, again)
    for name, measured in average_precision(file, found).items():
        assert isinstance(measured.outcomes, Matches)
        there = measured.outcomes.value(name, drawn)
        assert there == (pytest.approx(apart[name].value, abs=1e-9) if name in apart else None)


def copies(file: dict[str, Any], found: list[Found], drawn: list[int]) -> tuple[dict[str, Any], list[Found]]:
    """A file with each drawn image under an id of its own."""
    images, annotations, again = [], [], []
    for new, i in enumerate(drawn, start=1000):
        images.append(file["images"][i] | {"id": new})
        own = [each for each in file["annotations"] if each["image_id"] == found[i].image_id]
        annotations += [each | {"image_id": new} for each in own]
        again.append(dataclasses.replace(found[i], image_id=new))
    return file | {"images": images, "annotations": annotations}, again


def test_what_does_not_fit_the_annotations_is_bad_input() -> None:
    file = truth(np.random.default_rng(2), 4)
    found = perfect(file)
    for wrong, reason in (
        ([dataclasses.replace(found[0], image_id=999)], "image 999 is not in the annotations"),
        ([found[0], found[0]], "twice"),
        ([dataclasses.replace(found[0], labels=found[0].labels + 5)], "of 5 categories"),
        ([dataclasses.replace(found[0], masks=None), found[1]], "masks were looked for"),
    ):
        with pytest.raises(BadInputError, match=reason):
            average_precision(file, wrong)

"""The embedded digit scenes: the same everywhere, splits apart, and boxes, polygons, runs and maps that agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitq.datasets import digit_scenes, digits
from vitq.datasets.calibration import Calibration
from vitq.datasets.digit_scene_data import coco, drawn, open_scenes, pixels_sha256
from vitq.datasets.scene_drawing import SIDE, draw_scene
from vitq.datasets.scene_preprocessing import ScenePreprocessing

HOW = ScenePreprocessing(size=(3, SIDE, SIDE), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
ITEMS = digit_scenes.items("validation")


def of_annotation(annotation: dict[str, Any]) -> NDArray[np.bool_]:
    """The mask that pycocotools reads from an annotation."""
    mask = pytest.importorskip("pycocotools.mask")
    said = annotation["segmentation"]
    packed = mask.frPyObjects(said, SIDE, SIDE)
    found: NDArray[np.bool_] = mask.decode(mask.merge(packed) if isinstance(said, list) else packed).astype(bool)
    return found


def test_a_scene_follows_from_its_name_and_scans() -> None:
    members = digit_scenes.members(ITEMS[0])
    one, again, other = (draw_scene(name, members) for name in ("a", "a", "b"))
    assert np.array_equal(one.pixels, again.pixels)
    assert np.array_equal(one.label_map(), again.label_map())
    assert not np.array_equal(one.pixels, other.pixels)
    assert pixels_sha256() == "b4c5ff0a98a98bf43c460411fef3d3c14062a5935cc0c2a5eb656ba89a19da50"


def test_splits_share_no_scan_and_scenes_are_drawn_of_their_own() -> None:
    scans = {split: set(digit_scenes.members(digit_scenes.items(split)[0])) for split in digit_scenes.SPLITS}
    assert scans == {split: set(digits.splits()[split]) for split in scans}
    assert sum(map(len, scans.values())) == len(set().union(*scans.values()))


def test_boxes_are_tight_around_masks() -> None:
    data = open_scenes("detection", HOW, Calibration(), limit=None, seed=0)
    for scene in (scene for batch in data.validation() for scene in batch):
        assert scene.things is not None
        for (x1, y1, x2, y2), mask in zip(scene.things.boxes.int().tolist(), scene.things.masks, strict=True):
            assert mask.any()
            assert mask[y1:y2, x1:x2].sum() == mask.sum()
            assert all(bool(edge.any()) for edge in (mask[y1], mask[y2 - 1], mask[:, x1], mask[:, x2 - 1]))


def test_polygons_and_runs_are_the_masks() -> None:
    truth = coco(ITEMS)
    masks = [mask for item in ITEMS for mask in drawn(item).masks]
    for annotation, mask in zip(truth["annotations"], masks, strict=True):
        assert annotation["area"] == mask.sum()
        assert np.array_equal(of_annotation(annotation), mask), annotation["id"]


def test_crowds_are_there_and_have_runs() -> None:
    crowds = [each for each in coco(ITEMS)["annotations"] if each["iscrowd"]]
    assert crowds
    assert all(isinstance(each["segmentation"], dict) for each in crowds)


def test_label_maps_are_the_masks() -> None:
    for item in ITEMS:
        found = drawn(item)
        expected = np.zeros((SIDE, SIDE), np.uint8)
        for label, mask in zip(found.labels, found.masks, strict=True):
            assert not expected[mask].any()
            expected[mask] = label + 1
        assert np.array_equal(found.label_map(), expected)


def test_content_changes_with_the_scans_and_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digit_scenes.content(ITEMS)
    assert len(set(before)) == len(ITEMS)
    monkeypatch.setattr(digit_scenes, "members", lambda _: [1, 2])
    assert not set(digit_scenes.content(ITEMS)) & set(before)


def test_training_follows_from_seed_and_epoch() -> None:
    first, again, other = (
        open_scenes("detection", HOW, Calibration(train_batch=4), limit=8, seed=s).training for s in (0, 0, 1)
    )
    assert first is not None
    assert again is not None
    assert other is not None
    one, two, three, four = (next(f(e))[0].image for f, e in ((first, 0), (again, 0), (other, 0), (first, 1)))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert not torch.equal(one, four)

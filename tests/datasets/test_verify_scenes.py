"""Checks of COCO's and ADE20K's folders find what is wrong with them, and only that."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import vitq
from scene_folders import change, file_of, make_ade, make_coco, noise, triangle, write_map

from vitq import mm
from vitq.datasets import ade20k_verify
from vitq.datasets.ade20k import ADE20K
from vitq.datasets.base import Check
from vitq.datasets.coco import COCO_2017
from vitq.datasets.scene_classes import ADE20K_CLASSES

ANY_COCO, ANY_ADE = replace(COCO_2017, full_size=None), replace(ADE20K, full_size=None)
"""The same data sets, of which a folder may hold any number of images."""


def run(dataset: Any, root: Path) -> dict[str, Check]:
    checks = dataset.verify({dataset.name: root}, sample=3, tell=lambda *_: None, workers=None)
    assert all("\n" not in check.message for check in checks)
    return {check.name: check for check in checks}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return make_coco(tmp_path / "coco")


@pytest.fixture
def ade(tmp_path: Path) -> Path:
    return make_ade(tmp_path / "ade")


def test_good_folders_pass(coco: Path, ade: Path) -> None:
    checks = run(ANY_COCO, coco)
    assert len(checks) == 8
    assert all(check.ok for check in checks.values())
    said = "6 images (1 with nothing in them), 6 annotations (1 of crowds), 80 categories in COCO's order"
    assert checks["coco-2017: val2017 annotations"].message == said
    checks = run(ANY_ADE, ade)
    assert len(checks) == 5
    assert all(check.ok for check in checks.values())


def test_a_part_of_a_data_set_is_not_all_of_it(coco: Path, ade: Path) -> None:
    bad = {name: check.message for name, check in run(COCO_2017, coco).items() if not check.ok}
    assert set(bad) == {"coco-2017: val2017 annotations", "coco-2017: train2017 annotations"}
    assert bad["coco-2017: val2017 annotations"].endswith("COCO 2017 has 5000 images and 36781 annotations")
    bad = {name: check.message for name, check in run(ADE20K, ade).items() if not check.ok}
    assert bad["ade20k: validation"] == "4 images, 4 label maps; ADEChallengeData2016 has 2000"
    assert set(bad) == {"ade20k: validation", "ade20k: training"}


def test_the_training_split_may_be_absent(coco: Path, ade: Path) -> None:
    shutil.rmtree(coco / "train2017")
    file_of(coco, "train2017").unlink()
    check = run(ANY_COCO, coco)["coco-2017: train2017"]
    assert check.ok
    assert "nothing can be trained" in check.message
    shutil.rmtree(ade / "images" / "training")
    shutil.rmtree(ade / "annotations" / "training")
    assert run(ANY_ADE, ade)["ade20k: training"].ok


def test_folders_that_are_not_there_fail(tmp_path: Path) -> None:
    for dataset in (COCO_2017, ADE20K):
        (check,) = run(dataset, tmp_path / "gone").values()
        assert not check.ok
        assert "gone is not there: correct the site file" in check.message
        (check,) = dataset.verify({}, sample=1, tell=lambda *_: None, workers=None)
        assert not check.ok
        assert "under [datasets]" in check.message


COCO_HARMS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "an image gone": (
        lambda r: (r / "val2017/000000000003.jpg").unlink(), "val2017 files",
        "1 of 6 images are not in .*val2017, the first is 000000000003.jpg",
    ),
    "no images": (lambda r: shutil.rmtree(r / "val2017"), "val2017 files", "cannot be listed"),
    "an image of another size": (
        lambda r: noise(r / "val2017/000000000003.jpg", (9, 9), 0), "val2017 images", "9 x 9 pixels, 50 x 50 by",
    ),
    "categories": (
        lambda r: change(r, lambda f: f["categories"].reverse()), "val2017 annotations", "stands where COCO 2017 has",
    ),
    "a box without area": (
        lambda r: change(r, lambda f: f["annotations"].append(triangle(9, 6, 1) | {"bbox": [1, 1, 0, 3]})),
        "val2017 shapes", "annotation 9 of val2017/000000000006.jpg: its box .* no area",
    ),
    "runs of another size in training": (
        lambda r: change(r, lambda f: f["annotations"][-1]["segmentation"].update(size=[1, 2]), "train2017"),
        "train2017 shapes", "RLE is of size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("harm", COCO_HARMS)
def test_what_is_wrong_with_coco_is_found(harm: str, coco: Path) -> None:
    how, name, word = COCO_HARMS[harm]
    how(coco)
    bad = {name: check for name, check in run(ANY_COCO, coco).items() if not check.ok}
    assert set(bad) == {f"coco-2017: {name}"}
    assert re.search(word, bad[f"coco-2017: {name}"].message)


def test_boxes_left_out_of_training_and_files_that_are_not_listed_are_counted(coco: Path) -> None:
    flat = triangle(9, 106, 1) | {"bbox": [1, 1, 0, 3]}
    change(coco, lambda found: found["annotations"].append(flat), "train2017")
    noise(coco / "val2017" / "more.jpg", (9, 9), 0)
    checks = run(ANY_COCO, coco)
    assert all(check.ok for check in checks.values())
    assert (
        "but 1, whose boxes have no area: they are left out of training"
        in checks["coco-2017: train2017 shapes"].message
    )
    assert checks["coco-2017: val2017 files"].message == "all 6 images are there, and 1 that are not listed"


def class_list(root: Path, names: list[str]) -> None:
    """As the data set's own list is written."""
    rows = [f"{n}\t0.1\t11664\t1172\t1\t{name}, another word" for n, name in enumerate(names, start=1)]
    (root / ade20k_verify.CLASS_LIST).write_text("\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows]) + "\n")


MAPS = "annotations/validation/ADE_val_0000000"
ADE_HARMS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "a map gone": (lambda r: (r / f"{MAPS}2.png").unlink(), "validation", f"{MAPS}2.png is not there"),
    "an image gone": (
        lambda r: (r / "images/validation/ADE_val_00000002.jpg").unlink(), "validation", f"{MAPS}2.png has no image",
    ),
    "a label above 150": (
        lambda r: write_map(r / f"{MAPS}1.png", np.full((64, 40), 151, np.uint8)), "validation pairs", "has label 151",
    ),
    "a map of another size": (
        lambda r: write_map(r / f"{MAPS}1.png", np.ones((9, 9), np.uint8)), "validation pairs", "9 x 9 pixels, its",
    ),
    "no maps": (lambda r: shutil.rmtree(r / "annotations/validation"), "validation", "cannot be listed"),
    "classes in another order": (
        lambda r: class_list(r, [*ADE20K_CLASSES[::-1]]), "classes", "has 'flag' where 'wall' is known",
    ),
    "a class list cut off": (lambda r: class_list(r, [*ADE20K_CLASSES[:9]]), "classes", "names 9 classes, not 150"),
}  # fmt: skip


@pytest.mark.parametrize("harm", ADE_HARMS)
def test_what_is_wrong_with_ade20k_is_found(harm: str, ade: Path) -> None:
    how, name, word = ADE_HARMS[harm]
    how(ade)
    bad = {name: check for name, check in run(ANY_ADE, ade).items() if not check.ok}
    assert set(bad) == {f"ade20k: {name}"}
    assert word in bad[f"ade20k: {name}"].message


def test_the_class_list_of_the_folder_is_compared(ade: Path) -> None:
    class_list(ade, list(ADE20K_CLASSES))
    check = run(ANY_ADE, ade)["ade20k: classes"]
    assert check == Check("ade20k: classes", True, "150 in the order of objectInfo150.txt")


def test_the_real_samples_are_whole_but_for_their_number(shared: Path) -> None:
    for dataset, folder in ((ANY_COCO, "coco"), (ANY_ADE, "ADEChallengeData2016")):
        if not (shared / "data" / folder).is_dir():
            pytest.skip(f"real images are not at {shared / 'data' / folder}")
        assert all(check.ok for check in run(dataset, shared / "data" / folder).values())


@pytest.mark.slow
@pytest.mark.skipif(mm.why_absent() is not None, reason=str(mm.why_absent()))
def test_the_command_line_says_it_in_a_line_and_exits_with_2(coco: Path, ade: Path, tmp_path: Path) -> None:
    change(coco, lambda found: found["annotations"][0].update(category_id=12))
    write_map(ade / f"{MAPS}1.png", np.full((64, 40), 151, np.uint8))
    (tmp_path / "vitq.toml").write_text('hub = false\n[datasets]\ncoco-2017 = "coco"\nade20k = "ade"\n')
    tasks = (("detection", "coco-2017", "digits_mask_rcnn"), ("segmentation", "ade20k", "digits_upernet_vit"))
    for task, dataset, model in tasks:
        (tmp_path / f"{task}.yaml").write_text(
            f"name: {task}\ntasks: [{{task: {task}, dataset: {dataset}, models: [{model}]}}]\nbits: [W8A8]\n"
            "calibration: {images: 1, batch: 1}\nmethods: [{method: fp32, bits: [FP32]}]\n"
        )
    done = vitq("verify", "detection.yaml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "FAIL coco-2017: val2017 annotations" in done.stdout
    assert "category_id 12 is none of COCO's 80" in done.stdout
    done = vitq("verify", "segmentation.yaml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "has label 151; 0 to 150 are known" in done.stdout
    done = vitq("run", "detection.yaml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "category_id 12 is none of COCO's 80" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr

"""COCO as scenes: which images, in which order, with what in them, and what they are known by."""

from __future__ import annotations

import operator
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scene_folders import Json, change, file_of, make_coco, triangle

from vitq import mm
from vitq.datasets import coco_scenes, scene_pixels
from vitq.datasets.base import Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.coco import COCO_2017
from vitq.datasets.coco_scenes import CocoReader
from vitq.datasets.identity import data_identity
from vitq.datasets.listing import Item
from vitq.datasets.preprocessing import Preprocessing
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.datasets.scenes import Scene, Things
from vitq.errors import BadInputError, UnsupportedError

HOW = ScenePreprocessing((3, 64, 64), (0.5,) * 3, (0.25,) * 3, scale=(96, 72))
drawn = pytest.mark.skipif(mm.why_absent("pycocotools", "cv2") is not None, reason="vitq[mm] is not installed")
"""Masks are drawn by pycocotools, images resized by cv2."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITQ_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_coco(tmp_path / "coco")


def opened(root: Path, limit: int | None = None, workers: int | None = None, how: Any = HOW, **spec: object) -> Data:
    given = Calibration.parse({"images": 2, "batch": 2, **spec})
    return COCO_2017.open(how, given, {"coco-2017": root}, limit=limit, seed=0, workers=workers)


def identity(root: Path, limit: int | None = None, **spec: Any) -> dict[str, str]:
    wants = ("calibration", "training")
    return data_identity(
        "coco-2017", {"coco-2017": root}, limit=limit, calibration={"images": 2, **spec}, wants=wants
    )  # fmt: skip


@drawn
@pytest.mark.slow
def test_threads_of_a_new_process_find_opencv_whole(root: Path) -> None:
    """Importing it in several threads at once fails now and then."""
    code = (
        "import sys, pathlib, test_coco; data = test_coco.opened(pathlib.Path(sys.argv[1]), workers=8); "
        "print(sum(len(batch) for batch in data.validation()))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code, str(root)], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout == "6\n"


def things(scene: Scene) -> Things:
    assert scene.things is not None
    return scene.things


def test_a_split_is_in_the_order_of_its_annotation_file(root: Path) -> None:
    data = opened(root)
    assert data.names == tuple(f"val2017/{n:012}.jpg" for n in (6, 5, 4, 3, 2, 1))
    assert data.n_validation == 6
    assert data.subset is None
    scenes = [scene for batch in data.validation() for scene in batch]
    assert [scene.image_id for scene in scenes] == [6, 5, 4, 3, 2, 1]
    assert [scene.original for scene in scenes] == [(64, 40), (48, 64), (32, 70), (50, 50), (64, 40), (48, 64)]
    assert {len(batch) for batch in data.validation()} == {1}


@drawn
def test_images_are_fitted_into_the_scale_and_normalized(root: Path) -> None:
    for batch in opened(root).validation():
        height, width = batch[0].original
        factor = min(96 / max(height, width), 72 / min(height, width))
        assert batch[0].image.shape == (3, int(height * factor + 0.5), int(width * factor + 0.5))
        assert batch[0].image.dtype == torch.float32
        assert -2 <= batch[0].image.min() < -1 < 1 < batch[0].image.max() <= 2


def test_without_a_scale_nothing_of_vitq_mm_is_needed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_pixels, "why_absent", lambda *_: "cv2 not installed: pip install 'vitq[mm]'")
    monkeypatch.setattr(scene_pixels, "opencv", scene_pixels.opencv.__wrapped__)
    plain = ScenePreprocessing((3, 64, 64), (0.5,) * 3, (0.25,) * 3)
    assert next(opened(root, how=plain).validation())[0].image.shape == (3, 64, 40)
    with pytest.raises(UnsupportedError, match=r"pip install 'vitq\[mm\]'"):
        next(opened(root).validation())


@drawn
def test_things_are_in_pixels_of_the_input(root: Path) -> None:
    scene = next(opened(root, images=1, list="first", split="val2017").calibration())[0]
    found = things(scene)
    assert scene.image.shape == (3, 96, 60)
    assert found.labels.tolist() == [5, 0]
    assert found.crowd.tolist() == [False, True]
    wanted = torch.tensor([[5, 4, 15, 24], [1, 0, 3, 64]]) * 1.5
    assert torch.allclose(found.boxes, wanted.float())
    assert found.masks.shape == (2, 96, 60)
    assert found.masks[1].nonzero().aminmax(dim=0).min.tolist() == [0, 2]
    assert found.masks[1, :, 2:4].all()
    half = found.masks[0].sum() / (found.boxes[0, 2] - found.boxes[0, 0]) / (found.boxes[0, 3] - found.boxes[0, 1])
    assert 0.4 < half < 0.6


@drawn
def test_an_image_without_annotations_is_kept(root: Path) -> None:
    data = opened(root, images=2, batch=2, list="first", split="val2017")
    empty = next(data.calibration())[1]
    assert (empty.image_id, len(things(empty).boxes)) == (5, 0)
    assert things(empty).masks.shape == (0, *empty.image.shape[1:])
    assert things(empty).boxes.shape == (0, 4)
    assert data.truth is not None
    assert [image["id"] for image in data.truth()["images"]] == [6, 5, 4, 3, 2, 1]


def test_calibration_is_drawn_taken_from_the_front_or_listed(root: Path, tmp_path: Path) -> None:
    assert opened(root, list="first").calibration_list == "train2017/000000000106.jpg\ntrain2017/000000000105.jpg\n"
    with pytest.warns(UserWarning, match="1 of 1 calibration images are among the images evaluated"):
        first = opened(root, list="first", split="val2017", images=1)
    assert (first.calibration_list, first.calibration_overlap) == ("val2017/000000000006.jpg\n", 1)
    seeded = opened(root).calibration_list
    assert seeded.count("train2017/") == 2
    assert opened(root, seed=1).calibration_list != seeded
    (tmp_path / "list.txt").write_text("val2017/000000000003.jpg\ntrain2017/000000000102.jpg\n")
    listed = opened(root, limit=1, list=str(tmp_path / "list.txt"))
    assert listed.calibration_list == (tmp_path / "list.txt").read_text()


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"list": "attribution"}, "coco-2017 has no ATTRIBUTION.csv"),
        ({"images": 7}, "7 images asked for, but seeded has 6"),
        ({"images": 7, "list": "first"}, "7 images asked for, but first has 6"),
        ({"split": "val2018"}, "coco-2017 has no split 'val2018'; did you mean 'val2017'"),
    ],
)
def test_a_calibration_that_cannot_be_had_is_told(spec: dict[str, object], word: str, root: Path) -> None:
    with pytest.raises(BadInputError, match=word):
        opened(root, **spec)


def test_a_list_of_other_images_is_told(root: Path, tmp_path: Path) -> None:
    for line, word in (("val2017/9.jpg", "no image of coco-2017's val2017"), ("images/9.jpg", "no split 'images'")):
        (tmp_path / "list.txt").write_text(line + "\n")
        with pytest.raises(BadInputError, match=word):
            opened(root, images=1, list=str(tmp_path / "list.txt"))


def test_a_limit_takes_a_seeded_subset_in_order(root: Path) -> None:
    data = opened(root, limit=3)
    assert data.names == tuple(name for name in opened(root).names if name in data.names)
    assert data.n_validation == 3
    assert data.subset == "".join(f"{name}\n" for name in data.names)
    assert set(opened(root, limit=2).names) < set(data.names)
    assert data.sha256 == identity(root, limit=3)["validation"] != identity(root)["validation"]


def test_truth_is_of_the_images_evaluated_and_the_callers_own(root: Path) -> None:
    data = opened(root, limit=3)
    assert data.truth is not None
    truth = data.truth()
    assert [f"val2017/{image['file_name']}" for image in truth["images"]] == list(data.names)
    ids = {image["id"] for image in truth["images"]}
    assert {annotation["image_id"] for annotation in truth["annotations"]} <= ids
    assert len(truth["categories"]) == 80
    for annotation in truth["annotations"]:
        annotation["segmentation"] = annotation["ignore"] = None
    assert all(annotation["segmentation"] and "ignore" not in annotation for annotation in data.truth()["annotations"])


def test_the_official_files_give_truth_that_an_evaluator_reads(shared: Path) -> None:
    root = shared / "data" / "coco"
    if not root.is_dir() or mm.why_absent("faster_coco_eval"):
        pytest.skip(f"real images are not at {root}, or faster-coco-eval is not installed")
    from faster_coco_eval import COCO

    with pytest.warns(UserWarning, match="are among the images evaluated"):
        data = opened(root, images=1, list="first", split="val2017")
    assert data.truth is not None
    read = COCO(data.truth())
    assert (len(read.imgs), len(read.anns), len(read.cats)) == (47, 469, 80)
    assert sum(annotation["iscrowd"] for annotation in read.anns.values()) == 7
    assert all(read.annToMask(annotation).any() for annotation in read.anns.values())


def batches_equal(left: Data, right: Data) -> bool:
    assert left.training is not None
    assert right.training is not None
    pairs = [(left.calibration(), right.calibration()), (left.validation(), right.validation())]
    pairs.append((left.training(1), right.training(1)))
    return all(
        one.name == other.name and torch.equal(one.image, other.image)
        for first, second in pairs
        for ones, others in zip(first, second, strict=True)
        for one, other in zip(ones, others, strict=True)
    )


@drawn
@pytest.mark.parametrize("workers", [None, 1, 5])
def test_any_number_of_readers_reads_the_same(workers: int | None, root: Path) -> None:
    spec = {"images": 5, "batch": 2, "train_batch": 4}
    assert batches_equal(opened(root, workers=0, **spec), opened(root, workers=workers, **spec))


@drawn
def test_training_shuffles_and_mirrors_by_the_seed(root: Path) -> None:
    data = opened(root, train_batch=4)
    assert data.training is not None
    assert operator.length_hint(data.training(0)) == 2
    epochs = [[scene for batch in data.training(n) for scene in batch] for n in (0, 1, 0)]
    names = [[scene.name for scene in epoch] for epoch in epochs]
    assert sorted(names[0]) == sorted(f"train2017/{n:012}.jpg" for n in range(101, 107))
    assert names[0] == names[2] != names[1]
    plain = opened(root, augment="none", train_batch=4)
    assert plain.training is not None
    still = {scene.name: scene for batch in plain.training(0) for scene in batch}
    mirrored = [not torch.equal(scene.image, still[scene.name].image) for epoch in epochs for scene in epoch]
    assert {True, False} == set(mirrored)
    with pytest.raises(BadInputError, match="augment: full is of classification"):
        opened(root, augment="full").training(0)  # type: ignore[misc]
    with pytest.raises(BadInputError, match="augment: full is of classification"):
        identity(root, augment="full")


@drawn
def test_mirroring_turns_images_boxes_and_masks_alike(root: Path) -> None:
    item = Item("train2017/000000000106.jpg", 0)
    still = CocoReader(root, HOW)(item)
    seed = next(n for n in range(20) if scene_pixels.dice_of(n, item).random() < 0.5)
    turned = CocoReader(root, HOW, flip=True, seed=seed)(item)
    assert isinstance(still, Scene)
    assert isinstance(turned, Scene)
    assert torch.equal(turned.image, still.image.flip(-1))
    assert torch.equal(things(turned).masks, things(still).masks.flip(-1))
    left = torch.tensor([60.0, 0, 60, 0]) - things(still).boxes * torch.tensor([1.0, -1, 1, -1])
    assert torch.allclose(things(turned).boxes, left[:, [2, 1, 0, 3]])
    assert torch.allclose(coco_scenes.flipped_boxes(things(turned).boxes, 60), things(still).boxes)


def first_of(found: Json, image: int) -> Json:
    each: Json = next(a for a in found["annotations"] if a["image_id"] == image)
    return each


CHANGES: dict[str, tuple[Callable[[Path], Any], set[str]]] = {
    "a byte of an evaluated image": (lambda r: (r / "val2017/000000000002.jpg").open("ab").write(b"x"), {"validation"}),
    "a box": (lambda r: change(r, lambda f: first_of(f, 2).update(bbox=[5.0, 4.0, 11.0, 20.0])), {"validation"}),
    "a polygon": (lambda r: change(r, lambda f: first_of(f, 2)["segmentation"][0].append(9.0)), {"validation"}),
    "a category": (lambda r: change(r, lambda f: first_of(f, 2).update(category_id=90)), {"validation"}),
    "an annotation more": (
        lambda r: change(r, lambda f: f["annotations"].append(triangle(999, 5, 3))), {"validation"},
    ),
    "a taught box": (
        lambda r: change(r, lambda f: first_of(f, 106).update(area=99.0), "train2017"), {"calibration", "training"},
    ),
    "a box that is trained on alone": (
        lambda r: change(r, lambda f: first_of(f, 101).update(area=99.0), "train2017"), {"training"},
    ),
    "a licence": (lambda r: change(r, lambda f: f["images"][0].update(license=3)), set()),
    "layout of the file": (lambda r: file_of(r).write_text(file_of(r).read_text() + "\n\n"), set()),
    "an image that is not listed": (lambda r: (r / "val2017/new.jpg").write_bytes(b"x"), set()),
    "the order of the file": (lambda r: change(r, lambda f: f["images"].reverse()), set()),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_shows_where_it_matters_and_nowhere_else(what: str, root: Path) -> None:
    harm, shows = CHANGES[what]
    before = identity(root, list="first")
    harm(root)
    after = identity(root, list="first")
    assert {key for key in after if after[key] != before[key]} == shows


def test_options_show_where_they_matter(root: Path) -> None:
    before = identity(root)
    for more, shows in (
        ({"batch": 3}, {"calibration"}), ({"seed": 5}, {"calibration"}), ({"split": "val2017"}, {"calibration"}),
        ({"list": "first"}, {"calibration"}), ({"train_batch": 2}, {"training"}), ({"augment": "none"}, {"training"}),
        ({"limit": 2}, {"validation", "subset"}),
    ):  # fmt: skip
        after = identity(root, **more)  # type: ignore[arg-type]
        assert {key for key in after if after[key] != before[key]} == shows


def test_a_model_of_another_task_is_refused(root: Path) -> None:
    with pytest.raises(BadInputError, match=r"coco-2017 holds scenes of any size, .* \(Preprocessing\) cannot take"):
        opened(root, how=Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3))


def test_a_folder_without_a_training_split_cannot_train(root: Path) -> None:
    import shutil

    shutil.rmtree(root / "train2017")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert opened(root, split="val2017").training is None

"""ADE20K as scenes: labels, order, crops, identity; and folders that are not as they should be, one line each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scene_folders import SIZES, make_ade, noise, write_map

from vitq import mm
from vitq.datasets.ade20k import ADE20K, map_of
from vitq.datasets.base import Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.decoding import decode
from vitq.datasets.identity import data_identity
from vitq.datasets.preprocessing import Preprocessing
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.datasets.scenes import Scene
from vitq.errors import BadInputError

HOW = ScenePreprocessing((3, 32, 32), (0.5,) * 3, (0.25,) * 3)
LARGE = ScenePreprocessing((3, 32, 32), (0.5,) * 3, (0.25,) * 3, scale=(200, 60), crop=(24, 40))
resizing = pytest.mark.skipif(mm.why_absent("cv2") is not None, reason="cv2 is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITQ_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_ade(tmp_path / "ADEChallengeData2016")


def opened(
    root: Path, limit: int | None = None, workers: int | None = None, how: Any = HOW, seed: int = 0, **spec: object
) -> Data:
    given = Calibration.parse({"images": 2, "batch": 2, **spec})
    return ADE20K.open(how, given, {"ade20k": root}, limit=limit, seed=seed, workers=workers)


def identity(root: Path, **spec: Any) -> dict[str, str]:
    wants = ("calibration", "training")
    return data_identity("ade20k", {"ade20k": root}, calibration={"images": 2, "list": "first", **spec}, wants=wants)


def evaluated(root: Path) -> list[Scene]:
    return scenes(opened(root).validation())


def labels_on_disk(root: Path, name: str) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(root / map_of(name))).copy()).long()


def scenes(batches: Any) -> list[Scene]:
    return [scene for batch in batches for scene in batch]


def map_in(scene: Scene) -> torch.Tensor:
    assert scene.label_map is not None
    return scene.label_map


def test_labels_are_one_less_and_255_where_the_map_has_0(root: Path) -> None:
    data = opened(root)
    assert data.names == tuple(f"images/validation/ADE_val_{n:08}.jpg" for n in range(1, 5))
    assert data.truth is None
    for number, scene in enumerate(scenes(data.validation())):
        raw = labels_on_disk(root, scene.name)
        assert scene.image_id == number
        assert scene.original == SIZES[(number + 1) % 4] == tuple(raw.shape)
        assert map_in(scene).dtype == torch.uint8
        assert map_in(scene)[0, :3].tolist() == [255, 0, 149]
        assert torch.equal(map_in(scene).long(), torch.where(raw == 0, 255, raw - 1))


@resizing
def test_an_image_is_resized_and_its_map_keeps_its_size(root: Path) -> None:
    for scene in scenes(opened(root, how=LARGE).calibration()):
        factor = min(200 / max(scene.original), 60 / min(scene.original))
        assert scene.image.shape[1:] == tuple(int(side * factor + 0.5) for side in scene.original)
        assert tuple(map_in(scene).shape) == scene.original


@resizing
def test_training_cuts_image_and_map_alike(root: Path) -> None:
    data = opened(root, how=LARGE, train_batch=3)
    assert data.training is not None
    first, again, other = (scenes(data.training(n)) for n in (0, 0, 1))
    assert [s.name for s in first] == [s.name for s in again]
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert any(a.name != b.name or not torch.equal(a.image, b.image) for a, b in zip(first, other, strict=True))
    for scene in first:
        assert scene.image.shape == (3, 24, 40)
        assert tuple(map_in(scene).shape) == scene.original == (24, 40)


def test_a_crop_shows_what_its_map_says(root: Path) -> None:
    """Images painted by their own labels, unresized: wherever and however they are cut, pixel and label agree."""
    for path in (root / "annotations" / "training").iterdir():
        labels = np.asarray(Image.open(path))
        painted = Image.fromarray(np.repeat(labels[..., None], 3, axis=2))
        painted.save(root / "images" / "training" / f"{path.stem}.png")
        (root / "images" / "training" / f"{path.stem}.jpg").unlink()
    how = ScenePreprocessing((3, 32, 32), (0.0,) * 3, (1 / 255,) * 3, crop=(20, 30))
    seen = set()
    for seed in range(4):
        data = opened(root, how=how, seed=seed)
        assert data.training is not None
        for scene in scenes(data.training(0)):
            raw = scene.image[0].round().long()
            assert torch.equal(torch.where(raw == 0, 255, raw - 1), map_in(scene).long())
            seen.add((scene.name, tuple(raw.flatten().tolist())))
    assert len(seen) > 8
    plain = opened(root, how=how, augment="none")
    assert plain.training is not None
    assert {s.original for s in scenes(plain.training(0))} == set(SIZES)


def test_an_image_smaller_than_the_crop_is_left_as_it_is(root: Path) -> None:
    data = opened(root)
    assert data.training is not None
    assert {s.original for s in scenes(data.training(0))} == set(SIZES)


@pytest.mark.parametrize("workers", [None, 1, 4])
def test_any_number_of_readers_reads_the_same(workers: int | None, root: Path) -> None:
    ours, theirs = opened(root, workers=0), opened(root, workers=workers)
    assert ours.training is not None
    assert theirs.training is not None
    for left, right in (
        (ours.validation(), theirs.validation()), (ours.calibration(), theirs.calibration()),
        (ours.training(2), theirs.training(2)),
    ):  # fmt: skip
        for one, other in zip(scenes(left), scenes(right), strict=True):
            assert torch.equal(one.image, other.image)
            assert torch.equal(map_in(one), map_in(other))


def test_palettes_are_read_as_numbers(root: Path) -> None:
    path = root / map_of(opened(root).names[0])
    image = Image.open(path)
    image.load()
    image.putpalette(list(range(256)) * 3)
    image.save(path)
    assert Image.open(path).mode == "P"
    assert next(opened(root).validation())[0].label_map[0, :3].tolist() == [255, 0, 149]


VAL, TRAIN = "validation/ADE_val_00000001", "training/ADE_train_00000001"
CHANGES: dict[str, tuple[Callable[[Path], Any], set[str]]] = {
    "an image": (lambda r: (r / f"images/{VAL}.jpg").open("ab").write(b"x"), {"validation"}),
    "a label map": (lambda r: write_map(r / f"annotations/{VAL}.png", np.ones((64, 40), np.uint8)), {"validation"}),
    "a taught map": (
        lambda r: write_map(r / f"annotations/{TRAIN}.png", np.ones((64, 40), np.uint8)), {"calibration", "training"},
    ),
    "a text beside": (lambda r: (r / "images/validation/notes.txt").write_text("x"), set()),
    "a map without image": (lambda r: (r / "annotations/validation/x.png").write_bytes(b"x"), set()),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_shows_where_it_matters_and_nowhere_else(what: str, root: Path) -> None:
    harm, shows = CHANGES[what]
    before = identity(root)
    harm(root)
    after = identity(root)
    assert {key for key in after if after[key] != before[key]} == shows


def test_choices_are_made_as_of_other_data_sets(root: Path, tmp_path: Path) -> None:
    assert opened(root, list="first").calibration_list == "".join(
        f"images/training/ADE_train_{n:08}.jpg\n" for n in (1, 2)
    )
    with pytest.warns(UserWarning, match="2 of 2 calibration images are among the images evaluated"):
        assert opened(root, split="validation").calibration_overlap == 2
    limited = opened(root, limit=2)
    assert limited.n_validation == 2
    assert limited.subset == "".join(f"{name}\n" for name in limited.names)
    assert limited.sha256 == data_identity("ade20k", {"ade20k": root}, limit=2)["validation"]
    (tmp_path / "list.txt").write_text("images/training/ADE_train_00000003.jpg\n")
    assert opened(root, images=1, list=str(tmp_path / "list.txt")).calibration_list.endswith("3.jpg\n")
    (tmp_path / "list.txt").write_text("annotations/training/ADE_train_00000003.png\n")
    with pytest.raises(BadInputError, match="is no path of an image"):
        opened(root, images=1, list=str(tmp_path / "list.txt"))


def pair(root: Path) -> tuple[Path, Path]:
    return root / f"images/{VAL}.jpg", root / f"annotations/{VAL}.png"


def redrawn(labels: Any) -> Callable[[Path], None]:
    return lambda root: write_map(pair(root)[1], labels)


HARMS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a label map of another size": (redrawn(np.ones((40, 64), np.uint8)), "it has 64 x 40 pixels, its image 40 x 64"),
    "a label above 150": (redrawn(np.full((64, 40), 151, np.uint8)), "it has label 151; 0 to 150 are known"),
    "a label of 255": (redrawn(np.full((64, 40), 255, np.uint8)), "it has label 255"),
    "a label map in colour": (redrawn(np.ones((64, 40, 3), np.uint8)), "pixels of the kind RGB; a label map has one"),
    "a label map of 16 bits": (redrawn(np.ones((64, 40), np.uint16)), "it has 16 bits a channel"),
    "a label map as JPEG": (lambda r: noise(pair(r)[1].with_suffix(".jpg"), (64, 40), 0) or pair(r)[1].with_suffix(
        ".jpg").rename(pair(r)[1]), "it is no PNG inside"),
    "no label map": (lambda r: pair(r)[1].unlink(), "No such file"),
    "an empty label map": (lambda r: pair(r)[1].write_bytes(b""), "it is no PNG inside"),
    "a label map cut off": (lambda r: pair(r)[1].write_bytes(pair(r)[1].read_bytes()[:500]), "(?i)trunc"),
    "an image cut off": (lambda r: pair(r)[0].write_bytes(pair(r)[0].read_bytes()[:300]), "(?i)trunc"),
    "a folder as label map": (lambda r: pair(r)[1].unlink() or pair(r)[1].mkdir(), "not a regular file"),
    "no maps": (lambda r: shutil.rmtree(r / "annotations"), "No such file"),
    "no images": (lambda r: shutil.rmtree(r / "images/validation"), "has no folder images/validation"),
    "an empty folder": (
        lambda r: shutil.rmtree(r / "images/validation") or (r / "images/validation").mkdir(), "holds no image",
    ),
    "no folder": (shutil.rmtree, "is not there: correct the site file"),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_a_folder_that_is_wrong_is_one_line(harm: str, root: Path) -> None:
    how, word = HARMS[harm]
    how(root)
    with pytest.raises(BadInputError, match=word) as error:
        evaluated(root)
    assert "\n" not in str(error.value)
    assert str(root) in str(error.value)


def test_other_requests_that_cannot_be_met_are_one_line(root: Path) -> None:
    with pytest.raises(BadInputError, match=r"ade20k has no ATTRIBUTION\.csv"):
        opened(root, list="attribution")
    with pytest.raises(BadInputError, match="no split 'val'; known: validation, training"):
        opened(root, split="val")
    with pytest.raises(BadInputError, match=r"preprocessing \(Preprocessing\) cannot take"):
        opened(root, how=Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3))
    with pytest.raises(BadInputError, match="augment: full is of classification"):
        opened(root, augment="full").training(0)  # type: ignore[misc]


def test_images_are_still_decoded_as_colour(root: Path) -> None:
    assert decode(pair(root)[0]).mode == "RGB"
    assert decode(pair(root)[1]).mode == "RGB"

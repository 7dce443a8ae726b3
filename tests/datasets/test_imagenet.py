"""ImageNet folders: labels, bad folders, calibration lists."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from vitq.datasets import imagenet
from vitq.datasets.calibration import Calibration
from vitq.errors import BadInputError


def one_line(error: pytest.ExceptionInfo[BadInputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_partial_folders_are_labelled_by_synset(folder: Path) -> None:
    labels = {item.path.split("/")[1]: item.label for item in imagenet.listing(folder, "val")}
    assert labels == {"n01440764": 0, "n01443537": 1, "n02123045": 281, "n15075141": 999}


def test_proxy_labels_are_those_of_its_attribution(shared: Path) -> None:
    root = shared / "data" / "imagenet-proxy"
    found = {item.path: item.label for split in ("train", "val") for item in imagenet.listing(root, split)}
    with (root / "ATTRIBUTION.csv").open(newline="", encoding="utf-8") as file:
        listed = {row["file"]: int(row["class_index"]) for row in csv.DictReader(file)}
    assert found == listed
    assert len(found) == 1000


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as error:
        imagenet.listing(tmp_path / "nowhere", "val")
    assert str(tmp_path / "nowhere") in one_line(error)


def test_a_missing_split_is_named(folder: Path) -> None:
    with pytest.raises(BadInputError, match="no folder test"):
        imagenet.listing(folder, "test")


def test_an_unsorted_val_folder_is_recognized(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    for i in range(5):
        (tmp_path / "val" / f"ILSVRC2012_val_{i:08}.JPEG").write_bytes(b"")
    with pytest.raises(BadInputError) as error:
        imagenet.listing(tmp_path, "val")
    assert "not sorted by class: 5 images" in one_line(error)
    assert "synset folder" in one_line(error)


def test_an_unknown_synset_is_answered_with_the_nearest(folder: Path) -> None:
    (folder / "val" / "n01440765").mkdir()
    with pytest.raises(BadInputError) as error:
        imagenet.listing(folder, "val")
    assert "n01440765" in one_line(error)
    assert "n01440764" in one_line(error)


def test_empty_folders_are_told(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    with pytest.raises(BadInputError, match="is empty"):
        imagenet.listing(tmp_path, "val")
    (tmp_path / "val" / "n01440764").mkdir()
    with pytest.raises(BadInputError, match="no image"):
        imagenet.listing(tmp_path, "val")


def test_the_seeded_draw_is_stored_and_read_back(folder: Path, tmp_path: Path) -> None:
    drawn = imagenet.calibration(folder, Calibration(images=8, seed=3))
    assert drawn == imagenet.calibration(folder, Calibration(images=8, seed=3))
    assert drawn != imagenet.calibration(folder, Calibration(images=8, seed=4))
    assert all(item.path.startswith("train/") for item in drawn)
    assert len(Counter(item.label for item in drawn)) > 1
    (tmp_path / "list.txt").write_text("".join(f"{item.path}\n" for item in drawn))
    assert imagenet.calibration(folder, Calibration(images=8, list=str(tmp_path / "list.txt"))) == drawn


def test_attribution_gives_the_stated_order(folder: Path) -> None:
    items = imagenet.listing(folder, "train")[:4]
    rows = "".join(f"{item.path},{order}\n" for item, order in zip(items, (2, 0, 3, 1), strict=True))
    (folder / "ATTRIBUTION.csv").write_text("file,order\n" + rows)
    drawn = imagenet.calibration(folder, Calibration(images=3, list="attribution"))
    assert drawn == [items[1], items[3], items[0]]


def test_bad_calibration_lists(folder: Path, tmp_path: Path) -> None:
    for spec, word in (
        (Calibration(images=999), "ask fewer"),
        (Calibration(list="attribution"), "ATTRIBUTION.csv is not there"),
        (Calibration(list=str(tmp_path / "absent.txt")), "absent.txt cannot be read"),
    ):
        with pytest.raises(BadInputError) as error:
            imagenet.calibration(folder, spec)
        assert word in one_line(error)
    (tmp_path / "list.txt").write_text("train/n01440764/gone.JPEG\n")
    with pytest.raises(BadInputError, match=r"gone\.JPEG is not there"):
        imagenet.calibration(folder, Calibration(images=1, list=str(tmp_path / "list.txt")))
    (tmp_path / "list.txt").write_text("train/cats/gone.JPEG\n")
    with pytest.raises(BadInputError, match="synset"):
        imagenet.calibration(folder, Calibration(images=1, list=str(tmp_path / "list.txt")))


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"imges": 3}, "did you mean 'images'"),
        ({"images": 0}, "at least 1"),
        ({"batch": -1}, "at least 1"),
        ({"augment": "heavy"}, "light"),
    ],
)
def test_a_bad_calibration_mapping_is_told(given: dict[str, object], word: str) -> None:
    with pytest.raises(BadInputError) as error:
        Calibration.parse(given)
    assert word in one_line(error)

"""COCO folders that are not as they should be: one clear line that names the file, the annotation and what is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scene_folders import Json, change, crowd, file_of, make_coco, noise, triangle

from vitq import mm
from vitq.datasets import coco_annotations
from vitq.datasets.base import Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.coco import COCO_2017
from vitq.datasets.coco_shapes import mask
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.errors import BadInputError

HOW = ScenePreprocessing((3, 64, 64), (0.5,) * 3, (0.25,) * 3)
drawn = pytest.mark.skipif(mm.why_absent("pycocotools") is not None, reason="pycocotools is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITQ_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_coco(tmp_path / "coco", images=3)


def opened(root: Path, workers: int | None = None, **spec: object) -> Data:
    given = Calibration.parse({"images": 1, **spec})
    return COCO_2017.open(HOW, given, {"coco-2017": root}, limit=None, seed=0, workers=workers)


def evaluated(root: Path, workers: int | None) -> list[Any]:
    return list(opened(root, workers).validation())


def line(error: pytest.ExceptionInfo[BadInputError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 400
    return text


def refused(root: Path, **spec: object) -> str:
    with pytest.raises(BadInputError) as error:
        opened(root, **spec)
    return line(error)


def thing(**more: object) -> Callable[[Json], Any]:
    """Changes the triangle of image 1."""
    return lambda found: next(a for a in found["annotations"] if a["id"] == 10).update(more)


def runs(**more: object) -> Callable[[Json], Any]:
    """Changes the runs of the crowd on image 3, of 50 x 50 pixels."""
    return lambda found: next(a for a in found["annotations"] if a["id"] == 7)["segmentation"].update(more)


def image(**more: object) -> Callable[[Json], Any]:
    """Changes the image listed first, image 3."""
    return lambda found: found["images"][0].update(more)


def drop(key: str) -> Callable[[Json], Any]:
    return lambda found: found.pop(key)


NAN, INF = float("nan"), float("inf")
HARMS: dict[str, tuple[Callable[[Json], Any], str]] = {
    "a category id that COCO has not": (thing(category_id=12), "annotation 10: category_id 12 is none of COCO's 80"),
    "a category that is true": (thing(category_id=True), "category_id True is none of COCO's 80"),
    "a category id in words": (thing(category_id="1"), "category_id '1' is none"),
    "categories in another order": (
        lambda f: f["categories"].reverse(), "category 90 'toothbrush' stands where COCO 2017 has \\(1, 'person'\\)",
    ),
    "a category renamed": (lambda f: f["categories"][3].update(name="bike"), "category 4 'bike' stands where"),
    "a category left out": (lambda f: f["categories"].pop(), "it has 79 categories, COCO 2017 has 80"),
    "contiguous category ids": (
        lambda f: [c.update(id=n) for n, c in enumerate(f["categories"])], "category 0 'person' stands where",
    ),
    "an annotation without its image": (thing(image_id=99), "annotation 10 is of image 99, which is not listed"),
    "an annotation of image true": (thing(image_id=True), "is of image True, which is not listed"),
    "a box of zero width": (thing(bbox=[5, 4, 0, 20]), "annotation 10 of val2017/000000000001.jpg: its box .* no area"),
    "a box of zero height": (thing(bbox=[5, 4, 9, 0.0]), "its box \\[5, 4, 9, 0.0\\] has no area"),
    "a box of negative width": (thing(bbox=[5, 4, -9, 2]), "annotation 10: bbox \\[5, 4, -9, 2\\] is not x, y, width"),
    "a box outside": (thing(bbox=[64, 4, 9, 2]), "lies outside of the image of 64 x 48 pixels"),
    "a box of NaN": (thing(bbox=[5, NAN, 9, 2]), "is not JSON: NaN is no number"),
    "a box without end": (thing(bbox=[5, INF, 9, 2]), "is not JSON: Infinity is no number"),
    "a box of true": (thing(bbox=[5, 4, True, 2]), "bbox \\[5, 4, True, 2\\] is not x, y"),
    "a box of three": (thing(bbox=[5, 4, 9]), "bbox \\[5, 4, 9\\] is not x, y"),
    "no box": (thing(bbox=None), "bbox None is not x, y"),
    "no area": (thing(area=0), "its area is 0"),
    "a negative area": (thing(area=-3), "area is -3"),
    "an area of words": (thing(area="12"), "area is '12'"),
    "half a crowd": (thing(iscrowd=0.5), "iscrowd is 0.5, neither 0 nor 1"),
    "a crowd that is true": (thing(iscrowd=True), "iscrowd is True"),
    "a polygon of two points": (thing(segmentation=[[1, 1, 9, 9]]), "a polygon has 2 points, at least 3 make one"),
    "a second polygon of two points": (
        thing(segmentation=[[1, 1, 9, 9, 1, 9], [1, 1, 9, 9]]), "a polygon has 2 points",
    ),
    "an odd polygon": (thing(segmentation=[[1, 1, 9, 9, 1, 9, 2]]), "a polygon has 7 coordinates, an odd number"),
    "no polygon": (thing(segmentation=[]), "it has no polygon"),
    "points in pairs": (thing(segmentation=[[[1, 1], [9, 9], [1, 9]]]), "is no list of numbers"),
    "a flat polygon": (thing(segmentation=[1, 1, 9, 9, 1, 9]), "polygon 1 is no list of numbers"),
    "a polygon of true": (thing(segmentation=[[1, 1, 9, 9, 1, True]]), "is no list of numbers"),
    "a polygon far away": (thing(segmentation=[[1, 1, 9e9, 9, 1, 9]]), "reaches to 1 and 9e\\+09, far outside"),
    "no shape": (thing(segmentation=None), "segmentation is None, neither polygons nor RLE"),
    "RLE of another size": (runs(size=[50, 49]), "its RLE is of size \\[50, 49\\], the image of \\[50, 50\\]"),
    "RLE of no size": (runs(size=None), "its RLE is of size None"),
    "RLE of too few pixels": (runs(counts=[50, 100]), "its RLE has 150 pixels, the image 2500"),
    "RLE of negative runs": (runs(counts=[2600, -100]), "the counts of its RLE are no whole numbers"),
    "RLE of nothing": (runs(counts=[2500]), "its RLE marks no pixel"),
    "RLE of broken text": (runs(counts="a\x01b"), "the counts of its RLE are no whole numbers"),
    "RLE of text that breaks off": (runs(counts="Po"), "the counts of its RLE are no whole numbers"),
    "RLE of long text": (runs(counts="o" * 99), "the counts of its RLE are no whole numbers"),
    "an image twice": (lambda f: f["images"].append(f["images"][0]), "id 3 or '000000000003.jpg' is given twice"),
    "an image id twice": (image(id=1), "id 1 or .* is given twice"),
    "a file twice": (image(file_name="000000000001.jpg"), "or '000000000001.jpg' is given twice"),
    "an annotation id twice": (thing(id=7), "annotation id 7 is given twice"),
    "an annotation id of 0": (thing(id=0), "id is 0, not a whole number from 1"),
    "an annotation id that is no number": (thing(id="10"), "id is '10', not a whole number from 1"),
    "a file in another folder": (image(file_name="../x.jpg"), "file_name '../x.jpg' is no name of a file in val2017"),
    "a file of no name": (image(file_name=None), "file_name None is no name"),
    "a file whose name breaks a line": (image(file_name="a\nb.jpg"), "file_name 'a\\\\nb.jpg' is no name"),
    "an image of no width": (image(width=0), "images\\[0\\]: width is 0, not a whole number from 1 to 32768"),
    "an image of half a pixel": (image(width=50.5), "width is 50.5, not a whole"),
    "an image of true height": (image(height=True), "height is True, not a whole"),
    "an image that is huge": (image(height=10**9), "height is 1000000000, not a whole"),
    "an image id in words": (image(id="3"), "images\\[0\\]: id is '3', not a whole number"),
    "no images": (drop("images"), "it has no list 'images'"),
    "no annotations": (drop("annotations"), "it has no list 'annotations'"),
    "an empty list of images": (lambda f: f.update(images=[], annotations=[]), "it lists no image"),
    "an annotation that is a number": (lambda f: f["annotations"].append(3), "annotations\\[3\\] is no object but 3"),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_an_annotation_that_is_wrong_is_one_line(harm: str, root: Path) -> None:
    how, word = HARMS[harm]
    change(root, how)
    with pytest.raises(BadInputError, match=word) as error:
        opened(root)
    line(error)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "is not JSON"), ("{", "is not JSON"), ("\xff", "is not JSON"), ("[]", "it is no JSON object"),
        ("null", "it is no JSON object"), ("[" * 100_000, "nested too deep"), ('{"images": 3}', "no list 'images'"),
        ('{"images": ' + "9" * 5000 + "}", "is not JSON: Exceeds the limit"),
    ],
    ids=["empty", "broken", "not UTF-8", "list", "null", "deep", "number", "long number"],
)  # fmt: skip
def test_a_file_that_is_no_annotation_file_is_one_line(text: str, word: str, root: Path) -> None:
    file_of(root).write_bytes(text.encode("latin-1"))
    found = refused(root)
    assert word in found
    assert str(file_of(root)) in found


def test_a_huge_file_a_pipe_and_missing_folders_are_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(coco_annotations, "MAX_BYTES", 100)
        assert "more than 100 are not read" in refused(root)
    file_of(root).unlink()
    assert "put the annotations of val2017 there" in refused(root)
    os.mkfifo(file_of(root))
    assert "is not a regular file" in refused(root)
    with pytest.raises(BadInputError, match="gone is not there: correct the site file"):
        opened(root / "gone")
    with pytest.raises(BadInputError, match=r'coco-2017 = "/path/to/it" under \[datasets\]'):
        COCO_2017.open(HOW, Calibration(), {}, limit=None, seed=0, workers=None)


def picture(root: Path) -> Path:
    return root / "val2017" / "000000000002.jpg"


IMAGE_HARMS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, "No such file"),
    "empty": (lambda path: path.write_bytes(b""), "neither JPEG nor PNG"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:300]), "(?i)truncated"),
    "of another size": (lambda path: noise(path, (20, 30), 0), "it has 30 x 20 pixels, 40 x 64 by its annotations"),
    "another format": (lambda path: Image.new("RGB", (40, 64)).save(path, "BMP"), "neither JPEG nor PNG"),
}


@pytest.mark.parametrize("harm", IMAGE_HARMS)
@pytest.mark.parametrize("workers", [None, 0])
def test_an_image_that_cannot_be_read_is_named(harm: str, workers: int | None, root: Path) -> None:
    how, word = IMAGE_HARMS[harm]
    how(picture(root))
    with pytest.raises(BadInputError, match=word) as error:
        evaluated(root, workers)
    assert "000000000002.jpg" in line(error)


def test_annotations_that_change_while_they_are_read_are_told(root: Path) -> None:
    data = opened(root)
    change(root, lambda found: found.update(images=found["images"][:1], annotations=[]))
    with pytest.raises(BadInputError, match=r"lists val2017/000000000002\.jpg no more"):
        list(data.validation())


@drawn
def test_a_box_without_area_is_left_out_of_training_and_refused_where_it_is_evaluated(root: Path) -> None:
    """Two images of the official train2017 have one."""
    flat = triangle(999, 103, 1) | {"bbox": [5.0, 4.0, 10.0, 0.0], "area": 0.0}
    thin = triangle(998, 103, 1) | {"bbox": [5.0, 4.0, 0.5, 9.0]}
    change(root, lambda found: found["annotations"].extend([flat, thin]), "train2017")
    data = opened(root, list="first")
    scene = next(data.calibration())[0]
    assert scene.image_id == 103
    assert scene.things.labels.tolist() == [2, 0]
    change(root, lambda found: found["annotations"].append(flat | {"image_id": 3}))
    assert "its box [5.0, 4.0, 10.0, 0.0] has no area; correct or remove it" in refused(root)


@drawn
def test_a_polygon_of_two_points_is_refused_in_training_too(root: Path) -> None:
    change(root, lambda f: f["annotations"][-1].update(iscrowd=0, segmentation=[[1, 1, 2, 2]]), "train2017")
    data = opened(root, list="first")
    for batches in (data.calibration, lambda: data.training(0)):  # type: ignore[misc]
        with pytest.raises(BadInputError, match=r"annotation 7 of train2017/000000000103\.jpg: a polygon has 2 points"):
            list(batches())


@drawn
def test_compressed_runs_are_read_as_pycocotools_does(root: Path) -> None:
    import numpy as np
    from pycocotools import mask as theirs

    known = coco_annotations.read_annotations(root, "val2017").images["val2017/000000000003.jpg"]
    for seed in range(20):
        dice = np.random.default_rng(seed)
        wanted = np.asfortranarray(dice.random((50, 50)) < dice.random(), dtype=np.uint8)
        wanted[20:40, 10:45] = seed % 2
        text = theirs.encode(wanted)["counts"].decode()
        annotation: dict[str, Any] = crowd(1, 3, (50, 50)) | {"segmentation": {"size": [50, 50], "counts": text}}
        assert np.array_equal(mask(annotation, known), wanted)
        change(root, lambda found, given=annotation: found.update(annotations=[given]))  # type: ignore[misc]
        if wanted.any():
            assert json.loads(json.dumps(opened(root).truth()))["annotations"][0]["segmentation"]["counts"] == text  # type: ignore[misc]

"""The proxy's photographs, rebuilt from public images: laid out, labelled and listed as those that were evaluated."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitq.datasets import attribution, likeness
from vitq.datasets.rebuild_proxy import encoded, main, rebuild
from vitq.datasets.verify import verify_folder

PUBLISHED = Path(__file__).resolve().parents[2] / "reports" / "results" / "imagenet-proxy"
COLUMNS = ("file", "class_index", "name", "sha256", "order")
FILES = ("train/n01/aa.jpg", "val/n01/bb.jpg", "val/n02/cc.jpg")


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (299, 299, 3), dtype=np.uint8))


def write_list(folder: Path, columns: tuple[str, ...] = COLUMNS) -> Path:
    """A list of which the first file has the very bytes that are made, and the others have not."""
    folder.mkdir()
    first = hashlib.sha256(encoded(noise(0))).hexdigest()
    with (folder / attribution.ATTRIBUTION).open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        for at, name in enumerate(FILES):
            digest = first if at == 0 else "0" * 64
            table.writerow({"file": name, "class_index": at, "name": "a name, é", "sha256": digest, "order": at})
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for at, name in enumerate(FILES):
        noise(at).save(folder / f"{Path(name).stem}.png")
    noise(9).save(folder / "unlisted.png")
    return folder


def test_photographs_lie_and_are_listed_as_those_that_were_evaluated(images: Path, tmp_path: Path) -> None:
    found = rebuild(images, write_list(tmp_path / "listed"), tmp_path / "out")
    assert (found.written, found.same, found.missing, found.others) == (3, 1, (), ())
    assert "other data" in found.told
    assert "not compared" in found.told
    rows = attribution.rows(tmp_path / "out", ("file", "class_index", "name", "sha256", "order"))
    assert [(row["file"], row["class_index"], row["name"]) for row in rows] == [
        (name, str(at), "a name, é") for at, name in enumerate(FILES)
    ]
    for row in rows:
        path = tmp_path / "out" / row["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]
        assert Image.open(path).size == (256, 256)
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 3


def test_a_folder_of_the_same_bytes_is_told_so_and_has_the_same_list(images: Path, tmp_path: Path) -> None:
    rebuild(images, write_list(tmp_path / "listed"), tmp_path / "first")
    found = rebuild(images, tmp_path / "first", tmp_path / "second")
    assert (found.written, found.same) == (3, 3)
    assert "other data" not in found.told
    lists = [(tmp_path / folder / attribution.ATTRIBUTION).read_bytes() for folder in ("first", "second")]
    assert lists[0] == lists[1]


def test_an_image_that_shows_something_else_is_left_out(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As is a notice that a photograph was taken down, which comes with the status of a photograph."""
    listed = write_list(tmp_path / "listed")
    rebuild(images, listed, tmp_path / "evaluated")
    (listed / likeness.COLOURS).write_text(likeness.table(tmp_path / "evaluated", FILES), encoding="utf-8")
    Image.new("RGB", (299, 299), "white").save(images / "bb.png")
    words = ["--images", str(images), "--listed", str(listed), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "1 show something else and were left out: bb" in said
    assert "not compared" not in said
    assert [row["file"] for row in attribution.rows(tmp_path / "out", ("file",))] == [FILES[0], FILES[2]]
    assert not (tmp_path / "out" / FILES[1]).exists()


def test_what_is_missing_is_told(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "cc.png").unlink()
    listed = write_list(tmp_path / "listed")
    words = ["--images", str(images), "--listed", str(listed), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "2 photographs written, 1 of them with the bytes that were evaluated" in said
    assert "1 have no image: cc" in said


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("no images", "cannot be read"),
        ("none listed", "has no image of ATTRIBUTION.csv"),
        ("no image", "fetch the file again"),
        ("cut short", "fetch the file again"),
        ("no square", "is 640x299: give the squares"),
        ("two of one", "has both bb.jpg and bb.png: leave one"),
        ("all others", "shows none of the photographs"),
        ("colours", "take the published one again"),
        ("no list", "give reports/results/imagenet-proxy"),
        ("the list itself", "give reports/results/imagenet-proxy"),
        ("column", "has no column sha256"),
        ("order", "an order is no whole number"),
        ("full", "holds something"),
        ("a file", "holds something"),
        ("outside", "give plain paths inside"),
    ],
)
def test_a_fault_is_one_line_and_writes_nothing(
    images: Path, tmp_path: Path, fault: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = write_list(tmp_path / "listed", ("file", "class_index", "order") if fault == "column" else COLUMNS)
    given = {"images": images, "listed": listed, "out": tmp_path / "out"}
    made = spoil(fault, given)
    assert main([word for name, path in given.items() for word in (f"--{name}", str(path))]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert {path.name for path in given["out"].rglob("*")} == made


def spoil(fault: str, given: dict[str, Path]) -> set[str]:
    """Make one thing wrong; the names that `--out` holds before."""
    images, listed = given["images"], given["listed"]
    table = listed / attribution.ATTRIBUTION
    if fault == "no images":
        given["images"] = images / "nowhere"
    elif fault == "none listed":
        given["images"] = listed
    elif fault == "no image":
        (images / "bb.png").write_bytes(b"no image")
    elif fault == "cut short":
        (images / "cc.png").write_bytes((images / "cc.png").read_bytes()[:2000])
    elif fault == "no square":
        noise(1).resize((640, 299)).save(images / "bb.png")
    elif fault == "two of one":
        noise(1).save(images / "bb.jpg")
    elif fault == "all others":
        (listed / likeness.COLOURS).write_text("file,colours\n" + "".join(f"{name},{'00' * 48}\n" for name in FILES))
    elif fault == "colours":
        (listed / likeness.COLOURS).write_text("file,colours\ntrain/n01/aa.jpg,0f\n")
    elif fault == "no list":
        table.unlink()
    elif fault == "the list itself":
        given["listed"] = table
    elif fault == "order":
        table.write_text(table.read_text(encoding="utf-8").replace(",2\n", ",last\n"), encoding="utf-8")
    elif fault == "full":
        given["out"].mkdir()
        (given["out"] / "mine").touch()
        return {"mine"}
    elif fault == "a file":
        given["out"].touch()
    elif fault == "outside":
        table.write_text(table.read_text(encoding="utf-8").replace("train/n01", "../../x"), encoding="utf-8")
    return set()


def test_the_published_list_is_that_of_the_photographs(shared: Path) -> None:
    there = shared / "data" / "imagenet-proxy"
    assert (PUBLISHED / attribution.ATTRIBUTION).read_bytes() == (there / attribution.ATTRIBUTION).read_bytes()


def test_the_published_colours_are_those_of_the_photographs(shared: Path) -> None:
    there = shared / "data" / "imagenet-proxy"
    published = likeness.listed(PUBLISHED)
    assert published is not None
    assert list(published) == [row["file"] for row in attribution.rows(PUBLISHED, ("file",))]
    for name in list(published)[::40]:  # a decoder may round otherwise
        with Image.open(there / name) as image:
            assert likeness.distance(likeness.colours(image), published[name]) < 1


def test_photographs_are_known_again_through_other_filters_and_told_apart(shared: Path) -> None:
    """What decides between the two is far from both: a photograph moves by less, another is further off."""
    there = shared / "data" / "imagenet-proxy"
    published = likeness.listed(PUBLISHED)
    assert published is not None
    for name in list(published)[::40]:
        with Image.open(there / name) as image:
            larger = image.resize((299, 299), Image.Resampling.BICUBIC)
        with Image.open(io.BytesIO(encoded(larger))) as again:
            own = likeness.colours(again)
        assert likeness.distance(own, published[name]) < likeness.FARTHEST / 2
        others = (likeness.distance(own, other) for file, other in published.items() if file != name)
        assert min(others) > likeness.FARTHEST * 1.5


def test_a_folder_of_all_photographs_verifies_in_the_published_order(shared: Path, tmp_path: Path) -> None:
    """Laid out, ordered and labelled as the evaluated photographs, and checked by `vitq verify`."""
    there, images = shared / "data" / "imagenet-proxy", tmp_path / "images"
    images.mkdir()
    for row in attribution.rows(PUBLISHED, ("file",)):
        (images / Path(row["file"]).name).write_bytes((there / row["file"]).read_bytes())
    found = rebuild(images, PUBLISHED, tmp_path / "out")
    assert (found.written, found.missing, found.others, found.compared) == (1000, (), (), True)
    checks = verify_folder("imagenet-proxy", tmp_path / "out", 10, lambda *_: None, workers=1)
    assert [check.message for check in checks if not check.ok] == []
    assert attribution.ordered(tmp_path / "out") == attribution.ordered(there)


def test_an_evaluated_photograph_is_encoded_as_these_are(shared: Path) -> None:
    """Decoded and encoded again it has its own tables, size and chroma, and moves by no more than JPEG's rounding."""
    first = attribution.rows(PUBLISHED, ("file",))[0]["file"]
    with Image.open(shared / "data" / "imagenet-proxy" / first) as image:
        tables, before = image.quantization, np.asarray(image, dtype=np.float64)  # type: ignore[attr-defined]
        again = encoded(image)
    with Image.open(io.BytesIO(again)) as image:
        assert image.quantization == tables  # type: ignore[attr-defined]
        after = np.asarray(image, dtype=np.float64)
    assert np.abs(after - before).mean() < 2

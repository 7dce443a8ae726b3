"""The proxy's photographs, rebuilt from public images: laid out, labelled and listed as those that were evaluated."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitq.datasets import attribution
from vitq.datasets.rebuild_proxy import encoded, main, rebuild

PUBLISHED = Path(__file__).resolve().parents[2] / "reports" / "results" / "imagenet-proxy"
FILES = ("train/n01/aa.jpg", "val/n01/bb.jpg", "val/n02/cc.jpg")


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (299, 299, 3), dtype=np.uint8))


def write_list(folder: Path, columns: tuple[str, ...] = ("file", "class_index", "name", "sha256", "order")) -> Path:
    """A list of which the first file has the very bytes that are made, and the others have not."""
    folder.mkdir()
    first = hashlib.sha256(encoded(noise(0))).hexdigest()
    with (folder / attribution.ATTRIBUTION).open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
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
    assert (found.written, found.same, found.missing) == (3, 1, ())
    rows = attribution.rows(tmp_path / "out", ("file", "class_index", "name", "sha256", "order"))
    assert [(row["file"], row["class_index"], row["name"]) for row in rows] == [
        (name, str(at), "a name, é") for at, name in enumerate(FILES)
    ]
    for row in rows:
        path = tmp_path / "out" / row["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]
        assert Image.open(path).size == (256, 256)
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 3


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
        ("no image", "is no image that can be read"),
        ("no list", "is not there"),
        ("column", "has no column sha256"),
        ("full", "holds something"),
        ("outside", "names a file outside its folder"),
    ],
)
def test_a_fault_is_one_line(
    images: Path, tmp_path: Path, fault: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, out = tmp_path / "listed", tmp_path / "out"
    write_list(
        listed, ("file", "class_index", "order") if fault == "column" else ("file", "class_index", "sha256", "order")
    )
    text = (listed / attribution.ATTRIBUTION).read_text(encoding="utf-8")
    if fault == "no images":
        images = tmp_path / "nowhere"
    elif fault == "none listed":
        images = tmp_path / "others"
        images.mkdir()
    elif fault == "no image":
        (images / "bb.png").write_bytes(b"no image")
    elif fault == "no list":
        (listed / attribution.ATTRIBUTION).unlink()
    elif fault == "full":
        out.mkdir()
        (out / "mine").touch()
    elif fault == "outside":
        (listed / attribution.ATTRIBUTION).write_text(text.replace("train/n01", "../../x"), encoding="utf-8")
    assert main(["--images", str(images), "--listed", str(listed), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_the_published_list_is_that_of_the_photographs(shared: Path) -> None:
    there = shared / "data" / "imagenet-proxy"
    assert (PUBLISHED / attribution.ATTRIBUTION).read_bytes() == (there / attribution.ATTRIBUTION).read_bytes()


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

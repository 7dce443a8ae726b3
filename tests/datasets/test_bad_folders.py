"""Folders, files and lists that are not what they seem: one line, a warning, or exactly the pixels that are defined."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitq.datasets import decoding, imagenet
from vitq.datasets.base import Data
from vitq.datasets.batches import Preprocessing
from vitq.datasets.calibration import Calibration
from vitq.datasets.decoding import Unreadable, decode, try_decode
from vitq.datasets.listing import Item
from vitq.errors import BadInputError

HOW = Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3)
CLASS = "n01440764"


def refused(folder: Path, split: str = "val") -> str:
    with pytest.raises(BadInputError) as error:
        imagenet.listing(folder, split)
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize(
    "name",
    ["val/{c}/a.bmp", "val/{c}/a.webp", "val/{c}/a.tiff", "val/{c}/noname", "val/{c}/deeper/a.JPEG", "val/flat.JPEG"],
)
def test_what_may_be_an_image_is_not_left_out_silently(name: str, folder: Path) -> None:
    path = folder / name.format(c=CLASS)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    with pytest.warns(UserWarning, match="1 file in .* left out, the first is") as told:
        items = imagenet.listing(folder, "val")
    assert len(items) == 12
    assert str(path.relative_to(folder)) in str(told[0].message)


def test_what_cannot_be_an_image_is_left_out_silently(folder: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt", ".hidden.JPEG", "README"):
        (folder / "val" / CLASS / name).write_bytes(b"x")
        (folder / "val" / name).write_bytes(b"x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(imagenet.listing(folder, "val")) == 12


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "fifo": (os.mkfifo, "not a regular file"),
    "folder": (Path.mkdir, "is a folder"),
    "broken link": (lambda path: path.symlink_to("nowhere"), "leads nowhere"),
    "link in a circle": (lambda path: path.symlink_to(path.name), "leads nowhere"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_thing_named_as_an_image_that_is_none_is_refused(harm: str, folder: Path) -> None:
    make, word = HARMS[harm]
    make(folder / "val" / CLASS / "odd.JPEG")
    assert word in refused(folder)
    assert "odd.JPEG" in refused(folder)


@pytest.mark.parametrize("name", [b"\xff\xfe.JPEG", b"two\nlines.JPEG", b"bell\x07.JPEG"])
def test_a_name_that_no_list_can_hold_is_refused(name: bytes, folder: Path) -> None:
    (folder / "val" / CLASS / os.fsdecode(name)).write_bytes(b"x")
    assert "rename it" in refused(folder)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"two\nlines"])
def test_a_folder_of_such_a_name_is_refused(name: bytes, folder: Path) -> None:
    (folder / "val" / os.fsdecode(name)).mkdir()
    assert "no ImageNet-1k synset" in refused(folder)


def test_links_to_images_and_classes_are_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "val" / CLASS).rename(tmp_path / "elsewhere")
    (folder / "val" / CLASS).symlink_to(tmp_path / "elsewhere")
    assert len(imagenet.listing(folder, "val")) == 12
    (folder / "val" / "n01443537" / "link.JPEG").symlink_to(next((tmp_path / "elsewhere").iterdir()))
    assert len(imagenet.listing(folder, "val")) == 13


def test_a_class_folder_that_leads_nowhere_is_refused(folder: Path) -> None:
    (folder / "val" / "n15075141x").symlink_to("nowhere")
    assert "leads nowhere" in refused(folder)


def test_a_folder_that_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(imagenet.folders.os, "scandir", denied)
    assert "cannot be listed: Permission denied" in refused(folder)


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file; colour 0 is grey, 2 RGB."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("save", "word"),
    [
        (lambda path: picture().save(path, "BMP"), "neither JPEG nor PNG"),
        (lambda path: picture().save(path, "WEBP"), "neither JPEG nor PNG"),
        (lambda path: picture().save(path, "GIF"), "neither JPEG nor PNG"),
        (lambda path: Image.fromarray(np.ones((9, 9), np.float32)).save(path, "TIFF"), "neither JPEG nor PNG"),
        (lambda path: path.write_bytes(png(4, 4, 16, 0, (b"\0" + b"\x12\x34" * 4) * 4)), "16 bits a channel"),
        (lambda path: path.write_bytes(png(4, 4, 16, 2, (b"\0" + b"\x12\x34" * 12) * 4)), "16 bits a channel"),
        (lambda path: path.write_bytes(png(20_000, 20_000, 8, 2, b"")), "decompression bomb"),
        (lambda path: path.write_bytes(png(10_000, 9_000, 8, 2, b"")), "more than 89478485"),
        (lambda path: picture().save(path, "PNG", save_all=True, append_images=[picture().rotate(90)]), "animated"),
        (lambda path: path.write_bytes(b""), "neither JPEG nor PNG"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("gone"), "No such file"),
        (lambda path: path.symlink_to(path.name), "symbolic links"),
        (Path.mkdir, "not a regular file"),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "JPEG"])
def test_what_eight_bits_and_two_decoders_cannot_read_is_refused(
    save: Callable[[Path], object], word: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"image.{suffix}"
    save(path)
    found = try_decode(tmp_path, Item(path.name, 0))
    assert isinstance(found, Unreadable)
    assert word in found.reason
    assert path.name in str(decoding.unreadable(tmp_path, [found]))


def test_pixels_of_other_modes_are_defined(tmp_path: Path) -> None:
    image, path = picture(), tmp_path / "image.png"
    alpha = image.copy()
    alpha.putalpha(7)
    grey, palette = image.convert("L"), image.quantize(16)
    for saved, wanted in (
        (alpha, image),
        (grey, Image.merge("RGB", [grey] * 3)),
        (palette, palette.convert("RGB")),
        (image.convert("1"), image.convert("1").convert("RGB")),
    ):
        saved.save(path)
        assert np.array_equal(np.asarray(decode(path)), np.asarray(wanted))
    image.convert("CMYK").save(tmp_path / "image.jpg", quality=95)
    difference = np.asarray(decode(tmp_path / "image.jpg")).astype(int) - np.asarray(image)
    assert np.abs(difference).mean() < 40, "not inverted"


def test_a_suffix_that_lies_between_jpeg_and_png_is_read(tmp_path: Path) -> None:
    picture().save(tmp_path / "image.JPEG", "PNG")
    assert np.array_equal(np.asarray(decode(tmp_path / "image.JPEG")), np.asarray(picture()))


LISTS: dict[str, tuple[bytes, str]] = {
    "nul": (b"train/n01440764/a\0.JPEG\n", "control characters"),
    "absolute": (b"/etc/n01440764/passwd\n", "plain paths"),
    "up": (b"train/../../n01440764/x.JPEG\n", "plain paths"),
    "dots": (b"./train/n01440764/n01440764_0.JPEG\n", "plain paths"),
    "twice": (b"train/n01440764/n01440764_0.JPEG\n" * 2, "twice"),
    "not UTF-8": (b"train/n01440764/\xff.JPEG\n", "UnicodeDecodeError"),
    "too long": (b"train/n01440764/" + b"x" * 5000 + b".JPEG\n", "is not there"),
    "empty": (b"\n\n", "ask fewer"),
    "no image": (b"train/n01440764\n", "does not lie in a synset folder"),
    "a folder": (b"train/n01440764/n01440764\n", "is not there"),
}


@pytest.mark.parametrize("harm", LISTS)
def test_a_bad_list_is_one_line(harm: str, folder: Path, tmp_path: Path) -> None:
    text, word = LISTS[harm]
    (tmp_path / "list.txt").write_bytes(text)
    with pytest.raises(BadInputError, match=word) as error:
        imagenet.calibration(folder, Calibration(images=1, list=str(tmp_path / "list.txt")))
    assert "\n" not in str(error.value)


CSVS: dict[str, tuple[bytes, str]] = {
    "nul": (b"file,order\ntrain/n01440764/a\0.JPEG,0\n", "control characters|NUL"),
    "not UTF-8": (b"file,order\n\xff,0\n", "UTF-8"),
    "giant": (b'file,order\n"' + b"x" * 200_000 + b'",0\n', "field larger than"),
    "no column": (b"file\ntrain/n01440764/n01440764_0.JPEG\n", "no column order"),
    "no number": (b"file,order\ntrain/n01440764/n01440764_0.JPEG,first\n", "no whole number"),
    "short row": (b"file,order\ntrain/n01440764/n01440764_0.JPEG\n", "row 2 lacks"),
    "order twice": (b"file,order\ntrain/n01440764/n01440764_0.JPEG,0\ntrain/n01440764/n01440764_1.JPEG,0\n", "twice"),
    "up": (b"file,order\n../n01440764/n01440764_0.JPEG,0\n", "plain paths"),
    "empty": (b"", "no column file"),
}


@pytest.mark.parametrize("harm", CSVS)
def test_a_bad_attribution_is_one_line(harm: str, folder: Path) -> None:
    text, word = CSVS[harm]
    (folder / "ATTRIBUTION.csv").write_bytes(text)
    with pytest.raises(BadInputError, match=word) as error:
        imagenet.calibration(folder, Calibration(images=1, list="attribution"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_lists_that_are_no_files_are_never_opened(make: Callable[[Path], object], folder: Path, tmp_path: Path) -> None:
    make(tmp_path / "list.txt")
    make(folder / "ATTRIBUTION.csv")
    for kind in (str(tmp_path / "list.txt"), "attribution"):
        with pytest.raises(BadInputError, match="not a regular file"):
            imagenet.calibration(folder, Calibration(images=1, list=kind))


@pytest.mark.parametrize(
    "given",
    [{"images": True}, {"batch": 1.5}, {"seed": "x"}, {"list": ""}, {"list": 3}, {"split": "../other"}, {"split": ""},
     {"augment": ["light"]}],
)  # fmt: skip
def test_values_that_are_none_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(BadInputError, match=f"calibration: {next(iter(given))} is"):
        Calibration.parse(given)


def opened(folder: Path, **spec: object) -> Data:
    return imagenet.IMAGENET_PROXY.open(
        HOW, Calibration.parse(spec), {"imagenet-proxy": folder}, limit=None, seed=0, workers=None
    )


def test_calibrating_on_what_is_evaluated_is_said(folder: Path) -> None:
    with pytest.warns(UserWarning, match="5 of 5 calibration images are among the images evaluated"):
        assert opened(folder, images=5, split="val").calibration_overlap == 5
    copy = folder / "train" / CLASS / f"{CLASS}_0.JPEG"
    copy.write_bytes((folder / imagenet.listing(folder, "val")[0].path).read_bytes())
    with pytest.warns(UserWarning, match="1 of 48 calibration images"):
        assert opened(folder, images=48).calibration_overlap == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy.unlink()
        assert opened(folder, images=47).calibration_overlap == 0


def test_a_folder_deleted_during_a_run_is_bad_input(folder: Path) -> None:
    data = opened(folder, images=5)
    folder.rename(folder.with_name("gone"))
    for batches in (data.validation(), data.calibration()):
        with pytest.raises(BadInputError, match="No such file"):
            next(batches)
    assert data.training is not None
    with pytest.raises(BadInputError, match="is not there"):
        next(data.training(0))
    with pytest.raises(BadInputError, match="is not there"):
        opened(folder, images=5)

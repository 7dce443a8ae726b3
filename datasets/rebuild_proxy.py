"""Rebuild the photographs that the suite `proxy` evaluates from their public source.

    python -m vitq.datasets.rebuild_proxy --images images --listed reports/results/imagenet-proxy --out proxy

They are the development images of the NIPS 2017 competition on adversarial attacks and defences, photographs under
CC BY 2.0 with ImageNet labels (its `TrueLabel` counts from 1, `class_index` from 0). Its script cuts a box out of each
and makes it a PNG of 299x299, called by its id; here they become JPEGs of 256x256 in the folders of `--listed`, whose
ATTRIBUTION.csv has the class, the author, the order and the sha256 of each that was evaluated.

What is known of how those were made was read from the files, all 1000 alike: 256x256, quality 90, chroma halved both
ways, baseline, no EXIF. By which filter, from which size, and by which version of an encoder is not recorded; Lanczos,
as the competition's script has it, is taken. So bytes need not be the same, and it is told of how many files they are.
A folder whose files differ is other data, with an identity of its own: figures of it are to be compared within their
standard errors alone, and answer no record.

Photographs are taken down, and a notice may come in the place of one. What an image shows is held to the colours of
the photograph that was evaluated, and one that shows something else is left out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vitq.datasets import attribution, likeness
from vitq.datasets.decoding import Unreadable, quiet_pillow, try_decode, unreadable
from vitq.datasets.listing import Item
from vitq.errors import BadInputError

SIDE, QUALITY, HALVED = 256, 90, 2
KINDS = (".png", ".jpg", ".jpeg")
_COLUMNS = ("file", "class_index", "sha256", "order")


@dataclass(frozen=True)
class Rebuilt:
    """How many files were written, how many have the bytes that were evaluated, and the ids of those left out.

    `compared` is False where the list has no colours to hold images to.
    """

    written: int
    same: int
    missing: tuple[str, ...]
    others: tuple[str, ...]
    compared: bool

    @property
    def told(self) -> str:
        """One line for each."""
        lines = [f"{self.written} photographs written, {self.same} of them with the bytes that were evaluated"]
        if self.same < self.written:
            lines.append(
                "the filter and the size that those were made from are not recorded: this is other data, to be "
                "compared within standard errors alone"
            )
        if not self.compared:
            lines.append(f"what they show was not compared: the list has no {likeness.COLOURS}")
        if self.others:
            lines.append(f"{len(self.others)} show something else and were left out: {', '.join(self.others)}")
        if self.missing:
            lines.append(f"{len(self.missing)} have no image: {', '.join(self.missing)}")
        return "\n".join(lines)


def rebuild(images: Path, listed: Path, out: Path) -> Rebuilt:
    """Write the photographs of `listed` from `images` to `out`, with the ATTRIBUTION.csv of what was written.

    Raises BadInputError where the list cannot be read, an image is none or not the square that was cut out, none is
    there at all, or `out` holds something; nothing is written then.
    """
    rows = _rows(listed)
    known = likeness.listed(listed)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInputError(f"{out} holds something: remove it, or name a new folder")
    found = _by_id(images, {_id(row) for row in rows})
    if not found:
        raise BadInputError(f"{images} has no image of {attribution.ATTRIBUTION}: they are called <id>.png")
    made, others = _made(images, rows, found, known or {})
    if not made:
        raise BadInputError(f"{images} shows none of the photographs that were evaluated: fetch them again")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}
    for name, content in made.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    _write_list(rows, digests, out / attribution.ATTRIBUTION)
    same = sum(digests.get(row["file"]) == row["sha256"].strip().lower() for row in rows)
    missing = tuple(_id(row) for row in rows if _id(row) not in found)
    return Rebuilt(len(made), same, missing, others, compared=known is not None)


def encoded(image: Image.Image) -> bytes:
    """An image as the evaluated ones are: RGB, 256x256, JPEG of quality 90 with its chroma halved both ways."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "JPEG", quality=QUALITY, subsampling=HALVED)
    return content.getvalue()


def _rows(listed: Path) -> list[dict[str, str]]:
    """What is listed, its names and orders such as a data set's folder can have."""
    if not (listed / attribution.ATTRIBUTION).exists():
        raise BadInputError(
            f"{listed} is no folder with an {attribution.ATTRIBUTION}: give reports/results/imagenet-proxy"
        )
    rows = attribution.rows(listed, _COLUMNS)
    attribution.ordered(listed)
    return rows


def _id(row: Mapping[str, str]) -> str:
    return Path(row["file"]).stem


def _by_id(images: Path, wanted: set[str]) -> dict[str, str]:
    """Id to file name of those wanted; BadInputError where the folder cannot be read or an id has two images."""
    try:
        names = sorted(path.name for path in images.iterdir() if path.suffix.lower() in KINDS and path.stem in wanted)
    except OSError as error:
        raise BadInputError(f"the images {images} cannot be read: {error.strerror}") from None
    found: dict[str, str] = {}
    for name in names:
        if (other := found.setdefault(Path(name).stem, name)) != name:
            raise BadInputError(f"{images} has both {other} and {name}: leave one")
    return found


def _made(
    images: Path, rows: Sequence[Mapping[str, str]], found: Mapping[str, str], known: Mapping[str, bytes]
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The content of each file there is an image for, and the ids of images that show something else.

    Raises BadInputError where an image cannot be read or is no square.
    """
    made: dict[str, bytes] = {}
    others: list[str] = []
    bad: list[Unreadable] = []
    for row in rows:
        if (name := found.get(_id(row))) is None:
            continue
        image = try_decode(images, Item(name, 0))
        if isinstance(image, Unreadable):
            bad.append(image)
        elif not _shows(_square(image, images / name), known.get(row["file"])):
            others.append(_id(row))
        else:
            made[row["file"]] = encoded(image)
    if bad:
        raise unreadable(images, bad)
    return made, tuple(others)


def _square(image: Image.Image, path: Path) -> Image.Image:
    if image.width != image.height:
        raise BadInputError(
            f"{path} is {image.width}x{image.height}: give the squares that the competition's script makes, not whole "
            "photographs"
        )
    return image


def _shows(image: Image.Image, evaluated: bytes | None) -> bool:
    """Whether it shows the photograph of these colours; taken so where they are not known."""
    return evaluated is None or likeness.distance(likeness.colours(image), evaluated) <= likeness.FARTHEST


def _write_list(rows: Sequence[Mapping[str, str]], digests: Mapping[str, str], path: Path) -> None:
    """The rows of what was written, with the sha256 it has: byte by byte the list itself where all are the same."""
    columns = [column for column in rows[0] if column is not None]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows({**row, "sha256": digests[row["file"]]} for row in rows if row["file"] in digests)


def main(words: Sequence[str] | None = None) -> int:
    """The command: 0, 1 where a photograph is missing, or 2 with one line where something cannot be read or written."""
    parser = argparse.ArgumentParser(prog="rebuild_proxy", description="Rebuild the proxy's photographs.")
    parser.add_argument("--images", type=Path, required=True, help="folder of the public images, <id>.png")
    parser.add_argument("--listed", type=Path, required=True, help="folder of the ATTRIBUTION.csv to follow")
    parser.add_argument("--out", type=Path, required=True, help="new folder of the photographs")
    asked = parser.parse_args(words)
    quiet_pillow()
    try:
        rebuilt = rebuild(asked.images, asked.listed, asked.out)
    except (BadInputError, OSError) as error:
        print(f"rebuild_proxy: {error}", file=sys.stderr)
        return 2
    print(rebuilt.told)
    return 1 if rebuilt.missing or rebuilt.others else 0


if __name__ == "__main__":
    sys.exit(main())

"""Rebuild the photographs that the suite `proxy` evaluates from their public source.

    python download_images.py --input_file=dev_dataset.csv --output_dir=images        # the competition's own
    python -m vitq.datasets.rebuild_proxy --images images --listed reports/results/imagenet-proxy --out proxy

They are the development images of the NIPS 2017 competition on adversarial attacks and defences, photographs under
CC BY 2.0 with ImageNet labels. Its script makes an image of 299x299 of each, called by its id; here they become JPEGs
of 256x256 in the folders of `--listed`, whose ATTRIBUTION.csv has the class, the author, the order and the sha256 of
each that was evaluated.

What is known of how those were made was read from the files: 256x256, quality 90, chroma halved both ways. By which
filter, and from which size, is not recorded; Lanczos, as the competition's script has it, is taken. So bytes need not
be the same, and it is told of how many files they are. A folder whose files differ is other data, with an identity of
its own: figures of it are to be compared within their standard errors, and answer no record.
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

from vitq.datasets import attribution
from vitq.errors import BadInputError

SIDE, QUALITY, HALVED = 256, 90, 2
KINDS = (".png", ".jpg", ".jpeg")
_COLUMNS = ("file", "class_index", "sha256", "order")


@dataclass(frozen=True)
class Rebuilt:
    """How many files were written, how many of them have the bytes that were evaluated, and ids without an image."""

    written: int
    same: int
    missing: tuple[str, ...]

    @property
    def told(self) -> str:
        """One line for each."""
        lines = [f"{self.written} photographs written, {self.same} of them with the bytes that were evaluated"]
        if self.same < self.written:
            lines.append("the others are other data: compare figures within their standard errors")
        if self.missing:
            lines.append(
                f"{len(self.missing)} have no image: {', '.join(self.missing[:5])}{' ...' * (len(self.missing) > 5)}"
            )
        return "\n".join(lines)


def rebuild(images: Path, listed: Path, out: Path) -> Rebuilt:
    """Write the photographs of `listed` from `images` to `out`, with the ATTRIBUTION.csv of what was written.

    Raises BadInputError where the list cannot be read, an image is none, none is there at all, or `out` holds
    something.
    """
    rows = attribution.rows(listed, _COLUMNS)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInputError(f"{out} holds something: remove it, or name a new folder")
    found = _by_id(images)
    if not any(_id(row) in found for row in rows):
        raise BadInputError(f"{images} has no image of {attribution.ATTRIBUTION}: they are called <id>.png")
    made: list[Mapping[str, str]] = []
    for row in rows:
        if (source := found.get(_id(row))) is not None:
            made.append({**row, "sha256": _write(source, _inside(out, row["file"]))})
    _write_list(made, out / attribution.ATTRIBUTION)
    before = {row["file"]: row["sha256"] for row in rows}
    missing = tuple(_id(row) for row in rows if _id(row) not in found)
    return Rebuilt(len(made), sum(before[row["file"]] == row["sha256"] for row in made), missing)


def encoded(image: Image.Image) -> bytes:
    """An image as the evaluated ones are: RGB, 256x256, JPEG of quality 90 with its chroma halved both ways."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "JPEG", quality=QUALITY, subsampling=HALVED)
    return content.getvalue()


def _by_id(images: Path) -> dict[str, Path]:
    try:
        return {path.stem: path for path in sorted(images.iterdir()) if path.suffix.lower() in KINDS}
    except OSError as error:
        raise BadInputError(f"the images {images} cannot be read: {error.strerror}") from None


def _id(row: Mapping[str, str]) -> str:
    return Path(row["file"]).stem


def _inside(out: Path, name: str) -> Path:
    """A listed file's place; BadInputError for a name that leads out of the folder."""
    path = out / name
    if not path.resolve().is_relative_to(out.resolve()):
        raise BadInputError(f"{attribution.ATTRIBUTION} names a file outside its folder: {name!r}")
    return path


def _write(source: Path, path: Path) -> str:
    """Write one photograph; its sha256."""
    try:
        with Image.open(source) as image:
            content = encoded(image)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadInputError(f"{source} is no image that can be read: {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _write_list(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def main(words: Sequence[str] | None = None) -> int:
    """The command: 0, 1 where an image is missing, or 2 with one line where something cannot be read or written."""
    parser = argparse.ArgumentParser(prog="rebuild_proxy", description="Rebuild the proxy's photographs.")
    parser.add_argument("--images", type=Path, required=True, help="folder of the public images, <id>.png")
    parser.add_argument("--listed", type=Path, required=True, help="folder of the ATTRIBUTION.csv to follow")
    parser.add_argument("--out", type=Path, required=True, help="new folder of the photographs")
    asked = parser.parse_args(words)
    try:
        rebuilt = rebuild(asked.images, asked.listed, asked.out)
    except (BadInputError, OSError) as error:
        print(f"rebuild_proxy: {error}", file=sys.stderr)
        return 2
    print(rebuilt.told)
    return 1 if rebuilt.missing else 0


if __name__ == "__main__":
    sys.exit(main())

"""Whether an image shows a certain photograph, whatever filter and encoder it went through: its colours in 4x4 fields.

A sha256 holds for bytes alone. That an image made anew is the photograph in the same cut, and not another one or the
notice that it was taken down, is told by the mean colours of sixteen fields.

The photographs of the suite `proxy`, made larger and smaller by each of six pairs of filters and encoded again, move by
1.1 of 255 at most; two of them are never nearer than 5.3, and a cut a tenth too narrow is mostly further than 10.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from vitq.errors import BadInputError

COLOURS = "colours.csv"
SIDE = 4
FARTHEST = 3.0
"""Mean difference, of 255, up to which two images show the same."""
_BYTES = SIDE * SIDE * 3


def colours(image: Image.Image) -> bytes:
    """Mean RGB of each of its 4x4 fields, row by row, rounded: 48 bytes."""
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def distance(one: bytes, other: bytes) -> float:
    """Mean absolute difference of two images' colours, 0 to 255."""
    left, right = (np.frombuffer(each, dtype=np.uint8).astype(np.int16) for each in (one, other))
    return float(np.abs(left - right).mean())


def table(root: Path, names: Iterable[str]) -> str:
    """The text of colours.csv for these files of a folder."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("file", "colours"))
    for name in names:
        with Image.open(root / name) as image:
            rows.writerow((name, colours(image).hex()))
    return text.getvalue()


def listed(folder: Path) -> dict[str, bytes] | None:
    """File to colours, as a folder's colours.csv has them; None where there is none, BadInputError for a broken one."""
    path = folder / COLOURS
    if not path.exists():
        return None
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        found = {row["file"]: bytes.fromhex(row["colours"]) for row in rows}
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        found = {"": b""}
    if any(len(each) != _BYTES for each in found.values()):
        raise BadInputError(f"{path} is not the columns file and colours: take the published one again, or remove it")
    return found

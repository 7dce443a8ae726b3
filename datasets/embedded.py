"""Which images of an embedded data set a cell calibrates on; read without torch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from vitq.datasets.calibration import NOTHING, Calibration, enough, read_list
from vitq.datasets.listing import Item, draw
from vitq.errors import BadInputError


def to_calibrate(
    spec: Calibration, splits: Collection[str], items: Callable[[str], list[Item]], *, what: str, example: str
) -> list[Item]:
    """In order: of a split (`calibration` where none is named) drawn by the seed or its first, or by name from a file.

    `items` lists a split; `what` and `example` name the data set and one of its images in an error. BadInputError for a
    list that there is not, a name of no image, or fewer images than are asked for.
    """
    if spec.list == NOTHING:
        return []
    if spec.list == "attribution":
        raise BadInputError(f"calibration: the {what} have no ATTRIBUTION.csv; use list: seeded or first")
    if spec.list in ("seeded", "first"):
        every = items(spec.split or "calibration")
        return enough(every[: spec.images] if spec.list == "first" else draw(every, spec.images, spec.seed), spec)
    named = {item.path: item for split in splits for item in items(split)}
    names = read_list(Path(spec.list))[: spec.images]
    for name in names:
        if name not in named:
            raise BadInputError(f"calibration: {spec.list} names {name!r}, which is none of the {what} ({example} is)")
    return enough([named[name] for name in names], spec)


def source(spec: Calibration) -> object:
    """What the choice was made of: the split of a draw or of its first images, or all names of a list."""
    return spec.taken("calibration") or read_list(Path(spec.list))

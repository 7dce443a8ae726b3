"""Checks of ADE20K's folder before hours are spent: counts, class order, label maps, and pairs that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.datasets import folders
from vitq.datasets.ade20k import map_of
from vitq.datasets.ade20k_scenes import labels_of
from vitq.datasets.base import Check
from vitq.datasets.decoding import Unreadable, try_decode
from vitq.datasets.listing import Item
from vitq.datasets.readable import readable
from vitq.datasets.scene_classes import ADE20K_CLASSES
from vitq.errors import BadInputError
from vitq.subject import Progress

if TYPE_CHECKING:
    from vitq.datasets.ade20k import Ade20k

COUNTS = {"validation": 2000, "training": 20_210}
"""Pairs of an image and a label map in ADEChallengeData2016."""
CLASS_LIST = "objectInfo150.txt"
"""The data set's own list of classes, a line each in the order of their labels; the last column holds their names."""


def verify_ade20k(dataset: Ade20k, root: Path, sample: int, tell: Progress, workers: int | None) -> list[Check]:
    """Checks of both splits and the class list; the training split may be missing as a whole."""
    checks = [_classes(f"{dataset.name}: classes", root)]
    checks += _split(dataset, root, dataset.evaluated, sample, tell, workers)
    if (root / "images" / dataset.trained).exists() or (root / "annotations" / dataset.trained).exists():
        return checks + _split(dataset, root, dataset.trained, sample, tell, workers)
    said = f"not there: nothing can be trained, and calibration images come from {dataset.evaluated}"
    return [*checks, Check(f"{dataset.name}: {dataset.trained}", True, said)]


def _split(dataset: Ade20k, root: Path, split: str, sample: int, tell: Progress, workers: int | None) -> list[Check]:
    name = f"{dataset.name}: {split}"
    try:
        items = dataset.listing(root, split)
        maps = [f"annotations/{split}/{each.name}" for each in folders.entries(root / "annotations" / split)]
    except BadInputError as error:
        return [Check(name, False, str(error))]
    pairs = _pairs(name, items, maps, COUNTS[split] if dataset.full_size else None)
    if any(map_of(item.path) not in set(maps) for item in items):
        return [pairs]
    return [pairs, readable(f"{name} pairs", items, lambda item: _read(root, item), sample, tell, workers)]


def _pairs(name: str, items: Sequence[Item], maps: Sequence[str], whole: int | None) -> Check:
    wanted = {map_of(item.path) for item in items}
    there = {path for path in maps if path.endswith(".png")}
    said = f"{len(items)} images, {len(there)} label maps"
    if wanted - there:
        return Check(name, False, f"{said}; {min(wanted - there)} is not there")
    if there - wanted:
        return Check(name, False, f"{said}; {min(there - wanted)} has no image")
    if whole not in (None, len(items)):
        return Check(name, False, f"{said}; ADEChallengeData2016 has {whole}")
    return Check(name, True, said)


def _read(root: Path, item: Item) -> object:
    """The label map of an image, its labels and size looked at, or why one of the two cannot be used."""
    image = try_decode(root, item)
    return image if isinstance(image, Unreadable) else labels_of(root, item.path, (image.height, image.width))


def _classes(name: str, root: Path) -> Check:
    """The class list in the folder, where it is there, names the classes in the order of their labels."""
    file = root / CLASS_LIST
    if not file.is_file():
        return Check(
            name, True, f"{len(ADE20K_CLASSES)} in the order that vitq knows; {CLASS_LIST} is not there to compare"
        )
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        return Check(name, False, f"{file} cannot be read ({type(error).__name__}): fetch it again")
    rows = [line.split("\t") for line in lines if line[:1].isdigit()]
    found = [row[-1].split(",")[0].strip() for row in rows]
    wrong = next((pair for pair in zip(found, ADE20K_CLASSES, strict=False) if pair[0] != pair[1]), None)
    if wrong or len(found) != len(ADE20K_CLASSES):
        said = f"has {wrong[0]!r} where {wrong[1]!r} is known" if wrong else f"names {len(found)} classes, not 150"
        return Check(name, False, f"{CLASS_LIST} {said}: its labels are others")
    return Check(name, True, f"{len(found)} in the order of {CLASS_LIST}")

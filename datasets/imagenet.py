"""ImageNet as folders of a class each: `<root>/train/<synset>/*.JPEG` and `<root>/val/<synset>/*.JPEG`.

Class indices come from timm's synset list and never from the folders that are there, so that a folder with only some
of the classes is labelled right. What is drawn from a split (a calibration set, a limit) is a pure function of the seed
and the sorted names of its files: ImageNet's file names cannot be shipped with a suite, so the drawn list itself is
handed out with the data and stored in the record, and can be given back as a calibration list.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo

from vitq.datasets.calibration import Calibration, read_list
from vitq.datasets.listing import Item, draw
from vitq.errors import BadInputError

SUFFIXES = (".jpeg", ".jpg", ".png")
ATTRIBUTION = "ATTRIBUTION.csv"


@cache
def classes() -> dict[str, int]:
    """Synset to class index of ImageNet-1k, 1000 of them."""
    names = ImageNetInfo("imagenet-1k").label_names()  # type: ignore[no-untyped-call]
    return {synset: index for index, synset in enumerate(names)}


def listing(root: Path, split: str) -> list[Item]:
    """Every image of a split, sorted by path, labelled by its synset folder.

    Raises BadInputError when a folder is missing, empty, not sorted by class, or named for no ImageNet-1k synset.
    """
    folder = root / split
    if not root.is_dir():
        raise BadInputError(f"data set folder {root} is not there: correct the site file, [datasets]")
    if not folder.is_dir():
        raise BadInputError(f"{root} has no folder {split}: images belong in {folder}/<synset>/")
    synsets = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not synsets:
        raise _unsorted(folder)
    _all_known(folder, synsets)
    items = [Item(path, classes()[synset]) for synset in synsets for path in _files(root, split, synset)]
    if not items:
        raise BadInputError(f"{folder} holds synset folders but no image ({', '.join(SUFFIXES)}) in them")
    return items


def _files(root: Path, split: str, synset: str) -> Iterator[str]:
    with os.scandir(root / split / synset) as entries:
        names = sorted(e.name for e in entries if e.name.lower().endswith(SUFFIXES) and not e.name.startswith("."))
    return (f"{split}/{synset}/{name}" for name in names)


def _unsorted(folder: Path) -> BadInputError:
    flat = sum(entry.name.lower().endswith(SUFFIXES) for entry in os.scandir(folder))
    if flat:
        return BadInputError(
            f"{folder} is not sorted by class: {flat} images lie in it directly; move each into its synset folder "
            f"({folder}/n01440764/ and so on, by the validation ground truth)"
        )
    return BadInputError(f"{folder} is empty: images belong in {folder}/<synset>/")


def _all_known(folder: Path, synsets: Sequence[str]) -> None:
    for synset in synsets:
        if synset not in classes():
            near = difflib.get_close_matches(synset, classes(), n=1)
            hint = f"; did you mean {near[0]}?" if near else "; folders are named by synset, as n01440764"
            raise BadInputError(f"{folder / synset} is named for no ImageNet-1k synset{hint}")


def sha256(root: Path, items: Sequence[Item]) -> str:
    """Of "<relative path> <bytes>" of these images, a line each: names and sizes, not what is in the files."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.path} {(root / item.path).stat().st_size}\n".encode())
    return digest.hexdigest()


def calibration(root: Path, spec: Calibration) -> list[Item]:
    """The images to calibrate on, in order, as `spec.list` says; BadInputError where there are too few of them."""
    if spec.list == "seeded":
        chosen = draw(listing(root, spec.split or "train"), spec.images, spec.seed)
    elif spec.list == "attribution":
        chosen = [_item(root, path) for path in _by_attribution(root)[: spec.images]]
    else:
        chosen = [_item(root, path) for path in read_list(Path(spec.list))[: spec.images]]
    if len(chosen) < spec.images:
        raise BadInputError(
            f"calibration: {spec.images} images asked for, but {spec.list} has {len(chosen)}: ask fewer"
        )
    return chosen


def _by_attribution(root: Path) -> list[str]:
    try:
        with (root / ATTRIBUTION).open(newline="", encoding="utf-8") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: int(row["order"]))
        return [row["file"] for row in rows]
    except OSError:
        raise BadInputError(f"calibration: {root / ATTRIBUTION} is not there; use list: seeded") from None
    except (KeyError, TypeError, ValueError):
        raise BadInputError(f"calibration: {root / ATTRIBUTION} needs the columns file and order") from None


def _item(root: Path, path: str) -> Item:
    synset = Path(path).parent.name
    if synset not in classes():
        raise BadInputError(f"calibration: {path} does not lie in a synset folder")
    if not (root / path).is_file():
        raise BadInputError(f"calibration: {root / path} is not there")
    return Item(path, classes()[synset])

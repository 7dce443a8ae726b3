"""How a folder of one's own is laid out: its splits, class folders and images; read without torch.

    <root>/<class>/*.jpg                 flat
    <root>/{train,val}/<class>/*.jpg     split; `validation`, `valid` and `test` are other words for `val`
    <root>/val/<class>/*.jpg             flat, one folder further in

A folder called `train` that holds images is a class of that name; one that holds folders and no image is a split.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from vitq.datasets import folders
from vitq.datasets.listing import Item, is_plain
from vitq.errors import BadInputError
from vitq.words import nearest, short

TRAIN = "train"
VAL = "val"
CALIBRATION = "calibration"
"""The images of a flat folder that are held out of evaluation."""
WORDS_OF_VAL = (VAL, "validation", "valid", "test")


def check_root(root: Path) -> None:
    """BadInputError where there is no such folder."""
    if not root.is_dir():
        raise BadInputError(f"data set folder {root} is {'no folder' if root.exists() else 'not there'}: correct it")


def splits(root: Path) -> dict[str, str]:
    """Each split's folder, by `train` and `val`; of a flat folder `val` alone, '' where that is the root.

    BadInputError where there is no folder, or one with images to train on and none to validate on.
    """
    check_root(root)
    there = {entry.name for entry in folders.entries(root) if folders.is_folder(entry)}
    found = {name for name in there & {TRAIN, *WORDS_OF_VAL} if _is_split(root / name)}
    val = next((word for word in WORDS_OF_VAL if word in found), None)
    if TRAIN in found and val is None:
        raise BadInputError(
            f"{root} has {TRAIN}/ but no {VAL}/: put images to evaluate into {root / VAL}/<class>/, or name "
            f"{root / TRAIN} itself"
        )
    if TRAIN in found and val is not None:
        return {TRAIN: TRAIN, VAL: val}
    return {VAL: val if val is not None and there == {val} else ""}


def _is_split(folder: Path) -> bool:
    inside = folders.entries(folder)
    holds_images = any(entry.name.lower().endswith(folders.SUFFIXES) for entry in inside)
    return not holds_images and any(folders.is_folder(entry) for entry in inside)


def class_names(root: Path) -> tuple[str, ...]:
    """Names of the class folders of all splits, sorted as torchvision's ImageFolder sorts them.

    BadInputError where there are none, or one that no list could hold.
    """
    found: set[str] = set()
    for folder in splits(root).values():
        found.update(folders.class_folders(root / folder, folder, folders.LeftOut()))
    for name in sorted(found):
        if not is_plain(name):
            raise BadInputError(f"class folder {name!a} in {root} is not UTF-8 or holds a control character: rename it")
    if not found or found <= {TRAIN, *WORDS_OF_VAL}:
        raise _unsorted(root, found)
    return tuple(sorted(found))


def _unsorted(root: Path, found: set[str]) -> BadInputError:
    how = f"images belong in {root}/<class>/, or their labels in a CSV (--labels FILE)"
    if found:
        return BadInputError(f"{root}/{min(found)} is not sorted by class; {how}")
    flat = sum(entry.name.lower().endswith(folders.SUFFIXES) for entry in folders.entries(root))
    what = f"holds {flat} images but no class folders" if flat else "holds no class folders"
    return BadInputError(f"{root} {what}; {how}")


def listing(root: Path, folder: str, names: Sequence[str]) -> list[Item]:
    """Every image of a split's folder, sorted by path, labelled by the place of its class folder among `names`.

    BadInputError for a folder that is none of them, or where there is no image; warns of files that are left out.
    """
    left_out, label = folders.LeftOut(), {name: index for index, name in enumerate(names)}
    found = folders.class_folders(root / folder, folder, left_out)
    for name in found:
        if name not in label:
            raise BadInputError(
                f"folder {short(name)} in {root / folder} is none of the classes; {nearest(name, names)}"
            )
    items = [
        Item(path, label[name])
        for name in found
        for path in folders.images(root / folder / name, folders.inside(folder, name), left_out)
    ]
    if not items:
        raise BadInputError(f"{root / folder} holds no image ({', '.join(folders.SUFFIXES)}) in its class folders")
    left_out.warn(root / folder, folders.inside(folder, "<class>/"))
    return items


def by_folder(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Images by split where every path begins with `train/` or with one word for `val`, and both occur; else {}."""
    first = {item.path.partition("/")[0] for item in items}
    others = first - {TRAIN}
    if len(first) != 2 or len(others) != 1 or not others <= set(WORDS_OF_VAL):
        return {}
    train = [item for item in items if item.path.startswith(f"{TRAIN}/")]
    return {TRAIN: train, VAL: [item for item in items if not item.path.startswith(f"{TRAIN}/")]}


def warn_of_order(names: Sequence[str]) -> None:
    """Say where timm's trainer would number the classes otherwise: it takes `class10` after `class2`."""
    if list(names) != sorted(names, key=_natural):
        warnings.warn(
            "classes are numbered in the plain order of their names, as torchvision's ImageFolder numbers them; timm's "
            "trainer numbers these otherwise (whole numbers in names by value, case aside): for a model trained there "
            "give the order (--classes FILE)",
            UserWarning,
            stacklevel=2,
        )


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part), "") if part.isdigit() and part.isascii() else (1, 0, part) for part in parts]

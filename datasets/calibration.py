"""Which images a cell calibrates and trains on, how they are batched, and the lists that name them."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from vitq.datasets.listing import Item, is_plain
from vitq.errors import BadInputError
from vitq.words import nearest

AUGMENTATIONS = ("none", "light", "full")


@dataclass(frozen=True)
class Calibration:
    """The calibration set: `images` of them in batches of `batch`.

    `list`: `seeded` draws from `split` by `seed`; `attribution` takes orders 0 to images - 1 of the ATTRIBUTION.csv in
    the data set's folder; anything else is a text file of names, one a line. `split` None is the data set's own choice
    (train; the digits have a calibration split). Training batches hold `train_batch` images, augmented as `augment`
    says.
    """

    images: int = 32
    batch: int = 32
    seed: int = 0
    list: str = "seeded"
    split: str | None = None
    train_batch: int = 64
    augment: str = "light"

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Calibration:
        """From a suite's mapping; BadInputError for an unknown key or a value that cannot be used."""
        known = [f.name for f in fields(cls)]
        for key in given:
            if key not in known:
                raise BadInputError(f"calibration: unknown key {key!r}; {nearest(str(key), known)}")
        spec = cls(**given)
        spec._check()
        return spec

    def _check(self) -> None:
        for key in ("images", "batch", "train_batch", "seed"):
            value, least = getattr(self, key), 0 if key == "seed" else 1
            if not isinstance(value, int) or isinstance(value, bool) or (key != "seed" and value < least):
                wanted = "a whole number is needed" if key == "seed" else "at least 1 image is needed"
                raise BadInputError(f"calibration: {key} is {value!r}, but {wanted}")
        if self.augment not in AUGMENTATIONS:
            raise BadInputError(f"calibration: augment is {self.augment!r}; known: {', '.join(AUGMENTATIONS)}")
        if not isinstance(self.list, str) or not self.list.strip() or "\0" in self.list:
            raise BadInputError(f"calibration: list is {self.list!r}; give seeded, attribution or a text file")
        if self.split is not None and not _is_name(self.split):
            raise BadInputError(f"calibration: split is {self.split!r}; give the name of a split, as train")


def _is_name(split: object) -> bool:
    return isinstance(split, str) and split not in ("", ".", "..") and not set("/\\\0\n") & set(split)


def read_list(path: Path) -> list[str]:
    """Names in a text file, one a line; BadInputError where it is missing, no text, or names an image twice."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInputError(f"calibration list {path} is not a regular file: give a text file")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise BadInputError(
            f"calibration list {path} cannot be read ({type(error).__name__}): give a text file"
        ) from None
    names = [line.strip() for line in text.split("\n") if line.strip()]
    check_names(names, f"calibration list {path}")
    return names


def check_names(names: Sequence[str], where: str) -> None:
    """BadInputError for a name that is listed twice, leads out of the data set or holds control characters."""
    seen: set[str] = set()
    for name in names:
        if not is_plain(name):
            raise BadInputError(f"{where} names {name!r}, which holds control characters: correct that line")
        if name.startswith("/") or ".." in PurePosixPath(name).parts or str(PurePosixPath(name)) != name:
            raise BadInputError(f"{where} names {name!r}: give plain paths inside the data set's folder")
        if name in seen:
            raise BadInputError(f"{where} names {name!r} twice: leave one")
        seen.add(name)


def enough(chosen: Sequence[Item], spec: Calibration) -> list[Item]:
    """The items themselves; BadInputError where there are fewer than asked for."""
    if len(chosen) < spec.images:
        raise BadInputError(
            f"calibration: {spec.images} images asked for, but {spec.list} has {len(chosen)}: ask fewer"
        )
    return list(chosen)


def warn_of_overlap(overlap: int, calibrated: Sequence[Item]) -> None:
    """Say that a method sees what it is measured on; the warning reaches the record."""
    if overlap:
        warnings.warn(
            f"{overlap} of {len(calibrated)} calibration images are among the images evaluated: this accuracy is of "
            "data that the method has seen",
            UserWarning,
            stacklevel=2,
        )

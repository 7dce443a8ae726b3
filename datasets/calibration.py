"""Which images a cell calibrates and trains on, how they are batched, and the lists that name them."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vitq.datasets.listing import Item, is_plain
from vitq.errors import BadInputError
from vitq.words import describe, short, worst

NOTHING = "none"
"""The list that holds no image."""
Count = Annotated[int, Field(ge=1, le=100_000_000)]


class Calibration(BaseModel):
    """The calibration set: `images` of them in batches of `batch`.

    `list`: `seeded` draws from `split` by `seed`; `first` takes the first images of `split` in the data set's own order
    (that of COCO's annotation file, by name elsewhere), as RepQ-ViT's released detection code does with the one first
    image of val2017; `attribution` takes orders 0 to images - 1 of the ATTRIBUTION.csv in the data set's folder;
    anything else is a text file of names, one a line. `split` None is the data set's own choice (its training split;
    the digits have a calibration split). Training batches hold `train_batch` images, augmented as `augment` says.
    """

    # strict: 1.0, true and "1" are not taken for the number 1
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    images: Count = 32
    batch: Count = 32
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    list: str = Field(default="seeded", min_length=1)
    split: str | None = Field(default=None, min_length=1)
    train_batch: Count = 64
    augment: Literal["none", "light", "full"] = "light"

    @field_validator("list")
    @classmethod
    def _is_a_file(cls, word: str) -> str:
        if not word.strip() or "\0" in word:
            raise ValueError(f"{word!r} names no list: give seeded, first, none, attribution or a text file")
        return word

    @field_validator("split")
    @classmethod
    def _is_a_name(cls, word: str | None) -> str | None:
        if word is not None and (word in (".", "..") or set("/\\\0\n") & set(word)):
            raise ValueError(f"{word!r} is no name of a split, as train is one")
        return word

    def taken(self, otherwise: str) -> tuple[object, ...] | None:
        """What decides a choice from a split (`otherwise` where none is named); None where a list names the images."""
        split = self.split or otherwise
        taken = {"seeded": ("drawn", split, self.seed), "first": ("first", split), NOTHING: (NOTHING,)}
        return taken.get(self.list)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Calibration:
        """From a cell's mapping; BadInputError for an unknown key or a value that cannot be used."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = worst(error)
            if first["type"] == "extra_forbidden":
                raise BadInputError(f"calibration: {describe(error, cls)}") from None
            key = str(first["loc"][0])
            least = first.get("ctx", {}).get("ge")
            why = first["msg"].removeprefix("Value error, ") if least is None else f"at least {least} is needed"
            raise BadInputError(f"calibration: {key} is {short(given[key])}: {why}") from None


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

"""Which images a cell calibrates and trains on, and how they are batched."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vitq.errors import BadInputError

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
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                raise BadInputError(f"calibration: unknown key {key!r}; {hint}")
        spec = cls(**given)
        for key in ("images", "batch", "train_batch"):
            value = getattr(spec, key)
            if not isinstance(value, int) or value < 1:
                raise BadInputError(f"calibration: {key} is {value!r}, but at least 1 image is needed")
        if spec.augment not in AUGMENTATIONS:
            raise BadInputError(f"calibration: augment is {spec.augment!r}; known: {', '.join(AUGMENTATIONS)}")
        return spec


def read_list(path: Path) -> list[str]:
    """Names in a text file, one a line; BadInputError where the file is missing."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(
            f"calibration list {path} cannot be read ({type(error).__name__}): give a text file"
        ) from None
    return [line.strip() for line in lines if line.strip()]

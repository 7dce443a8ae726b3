"""The embedded digits: who is in which split, how each is distorted, identity; read without torch and scikit-learn.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998), CC BY 4.0, the copy that
scikit-learn packages: 1,797 scans of 8x8 pixels of 0 to 16. Upright and alone they are read too easily to tell one
method from another, so that each is shown turned, cluttered and faded (`digit_distortion`; `digit_scans` draws them).

`digits_splits.json` fixes who is who: 600 images for validation and 128 for calibration, stratified by class with
largest-remainder quotas, the members of each class picked by the order of sha256("digits:0:<index>"); 1,069 to train.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.datasets.base import Check, Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.digit_distortion import Distortion, distort
from vitq.datasets.embedded import source as calibration_source
from vitq.datasets.embedded import to_calibrate
from vitq.datasets.identity import identities
from vitq.datasets.listing import Item, stratified
from vitq.digests import file_sha256
from vitq.errors import BadInputError

if TYPE_CHECKING:
    from vitq.datasets.batches import Preprocessing

CLASSES = 10
SUBSET_SEED = 0
"""Every cell of a limited run is evaluated on the same scans, whatever its own seed."""


@cache
def splits() -> dict[str, list[int]]:
    """Indices into scikit-learn's order by split: `train`, `calibration`, `validation`."""
    text = resources.files("vitq.datasets").joinpath("digits_splits.json").read_text(encoding="utf-8")
    lists: dict[str, list[int]] = json.loads(text)
    return lists


def source() -> Path:
    """scikit-learn's file of scans; BadInputError where scikit-learn is not installed whole."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise BadInputError(
            "scikit-learn, which brings the digits, is not installed: install vitq with its dependencies"
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"


@cache
def labels() -> list[int]:
    """The digit of every scan, in scikit-learn's order: the last column of its file."""
    try:
        with gzip.open(source(), "rt", encoding="ascii") as file:
            return [int(line.rpartition(",")[2]) for line in file]
    except (OSError, EOFError, ValueError) as error:
        raise BadInputError(f"{source()} cannot be read ({error}): install scikit-learn again") from None


def items(split: str) -> list[Item]:
    """The scans of a split, named by their index; BadInputError for a split that is not there."""
    if split not in splits():
        raise BadInputError(f"the digits have no split {split!r}; known: {', '.join(splits())}")
    return [Item(str(index), labels()[index]) for index in splits()[split]]


def limited(limit: int | None) -> list[Item]:
    """The scans to evaluate on: the whole validation split, or a stratified subset of so many."""
    every = items("validation")
    return every if limit is None else stratified(every, limit, SUBSET_SEED)


def calibration(spec: Calibration) -> list[Item]:
    """The scans to calibrate on, in order: of a split, drawn by the seed or its first, or by index from a file."""
    return to_calibrate(spec, splits(), items, what="digits", example="0")


def distortion(index: int, text: str | None = None) -> Distortion:
    """How a scan is shown: the one way that its index gives, or another one that follows from `text`."""
    return distort(index, splits()["train"], f"digits:{index}" if text is None else text)


def content(chosen: Sequence[Item]) -> list[str]:
    """For each image the sha256 of what it is drawn of: the file that holds all scans, and how it is distorted."""
    file = file_sha256(source())
    return [hashlib.sha256(f"{file}\0{distortion(int(item.path)).sha256()}".encode()).hexdigest() for item in chosen]


@dataclass(frozen=True)
class Digits:
    """The data set; it has no folder and needs no workers."""

    name: str = "digits"
    task: str = "classification"
    full_size: int | None = 600
    packages: tuple[str, ...] = ("scikit-learn", "numpy")
    modules: tuple[str, ...] = ("vitq.datasets.digits", "vitq.datasets.digit_scans")
    classes: int = CLASSES
    needs_folder: bool = False

    def identity(
        self,
        places: Mapping[str, Path],  # noqa: ARG002
        *,
        limit: int | None,
        spec: Calibration,
        wants: Collection[str],
    ) -> dict[str, str]:
        """See `vitq.datasets.identity.data_identity`."""
        return identities(
            limited(limit),
            content,
            limit=limit,
            spec=spec,
            wants=wants,
            calibration=lambda: calibration(spec),
            source=lambda: calibration_source(spec),
            training=lambda: items("train"),
        )

    def open(
        self,
        how: Preprocessing,
        spec: Calibration,
        places: Mapping[str, Path],  # noqa: ARG002
        *,
        limit: int | None,
        seed: int,
        workers: int | None,  # noqa: ARG002
    ) -> Data:
        """Open them as a model wants them; `seed` shuffles and augments training."""
        from vitq.datasets.digit_scans import open_digits

        return open_digits(how, spec, limit=limit, seed=seed)

    def verify(self, *_: object, **__: object) -> list[Check]:
        """The splits share no scan, hold every scan, and every class is in each."""
        from vitq.datasets.digit_scans import verify_digits

        return verify_digits()


DIGITS = Digits()

"""The embedded digit scenes: which scene is in which split, and what decides it; read without torch.

Scenes of 128x128 drawn of the embedded digits (`scene_drawing`), as boxes, masks and crowds for detection
(`digit-scenes`) and as label maps for segmentation (`digit-scenes-maps`: 0 is paper, 1 + d the digit d). A scene is a
name, `validation/7`; the scans in it are of that split of the digits, so that no scan is in two splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.datasets.base import Check, Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.digits import source, splits
from vitq.datasets.embedded import source as calibration_source
from vitq.datasets.embedded import to_calibrate
from vitq.datasets.identity import identities
from vitq.datasets.listing import Item, stratified
from vitq.datasets.scene_folder import check_augment, for_scenes
from vitq.digests import file_sha256
from vitq.errors import BadInputError

if TYPE_CHECKING:
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.datasets.scene_preprocessing import ScenePreprocessing

SPLITS = {"train": 1200, "calibration": 64, "validation": 128}
"""Scenes of each split."""
SUBSET_SEED = 0
"""Every cell of a limited run is evaluated on the same scenes, whatever its own seed."""


def items(split: str) -> list[Item]:
    """The scenes of a split in order, class 0; BadInputError for a split that is not there."""
    if split not in SPLITS:
        raise BadInputError(f"the digit scenes have no split {split!r}; known: {', '.join(SPLITS)}")
    return [Item(f"{split}/{number}", 0) for number in range(SPLITS[split])]


def limited(limit: int | None) -> list[Item]:
    """The scenes to evaluate on: the whole validation split, or a seeded subset of so many."""
    every = items("validation")
    return every if limit is None else stratified(every, limit, SUBSET_SEED)


def calibration(spec: Calibration) -> list[Item]:
    """The scenes to calibrate on, in order: of a split, drawn by the seed or its first, or by name from a file."""
    return to_calibrate(spec, SPLITS, items, what="digit scenes", example="validation/0")


def members(item: Item) -> list[int]:
    """The scans that a scene is drawn of."""
    return splits()[item.path.partition("/")[0]]


def content(chosen: Sequence[Item]) -> list[str]:
    """For each scene the sha256 of what it is drawn of: all scans, those of its split, and its name."""
    file = file_sha256(source())
    return [hashlib.sha256(f"{file}\0{members(item)}\0{item.path}".encode()).hexdigest() for item in chosen]


@dataclass(frozen=True)
class DigitScenes:
    """The data set of one task; it has no folder and needs no workers."""

    name: str
    task: str
    classes: int
    full_size: int | None = SPLITS["validation"]
    packages: tuple[str, ...] = ("scikit-learn", "numpy", "scipy")
    modules: tuple[str, ...] = ("vitq.datasets.digit_scenes", "vitq.datasets.digit_scene_data")
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
        if "training" in wants:
            check_augment(spec)
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
        how: Preprocessing | ScenePreprocessing,
        spec: Calibration,
        places: Mapping[str, Path],  # noqa: ARG002
        *,
        limit: int | None,
        seed: int,
        workers: int | None,  # noqa: ARG002
    ) -> Data:
        """Open them as a model wants them; `seed` shuffles training and draws it anew where it is augmented."""
        from vitq.datasets.digit_scene_data import open_scenes

        return open_scenes(self.task, for_scenes(how, self.name), spec, limit=limit, seed=seed)

    def verify(self, *_: object, **__: object) -> list[Check]:
        """Every validation scene has digits, what they cover is theirs alone, and every class and crowds are there."""
        from vitq.datasets.digit_scene_data import verify_scenes

        return verify_scenes(self.name)


DIGIT_SCENES = DigitScenes("digit-scenes", "detection", 10)
DIGIT_SCENES_MAPS = DigitScenes("digit-scenes-maps", "segmentation", 11)

"""Folders of scenes with what is in them, COCO's and ADE20K's: which images are used and what they are known by.

Images go by their path in the data set's folder. A data set says how a split is listed and what is known of its images;
the choices from it (a limit, a calibration set) and their identity are made here, alike for all. Read without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vitq.datasets import identity
from vitq.datasets.calibration import NOTHING, Calibration, enough, read_list
from vitq.datasets.listing import Item, draw, stratified
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.errors import BadInputError
from vitq.words import nearest

SUBSET_SEED = 0
"""Every cell of a limited run is evaluated on the same images, whatever its own seed."""


class Layout(Protocol):
    """How a data set of scenes lies in its folder."""

    @property
    def name(self) -> str:
        """The data set's."""

    @property
    def evaluated(self) -> str:
        """The split that is evaluated."""

    @property
    def trained(self) -> str:
        """The split that is trained on, and calibrated on unless another is named."""

    def listing(self, root: Path, split: str) -> list[Item]:
        """Every image of a split in the data set's own order, class 0; BadInputError where it cannot be had."""

    def split_of(self, path: str) -> str:
        """The split that an image of this path belongs to; BadInputError where the path names none."""

    def known(self, root: Path, items: Sequence[Item]) -> list[str]:
        """sha256 of what is known of each image (annotations, label map), in order."""


@dataclass(frozen=True)
class SceneFolder:
    """One data set of scenes in its folder."""

    layout: Layout
    root: Path

    def limited(self, limit: int | None) -> list[Item]:
        """The images to evaluate on: all of the split that is evaluated, or a seeded subset of so many, in order."""
        every = self.layout.listing(self.root, self.layout.evaluated)
        return every if limit is None else stratified(every, limit, SUBSET_SEED)

    def calibration(self, spec: Calibration) -> list[Item]:
        """The images to calibrate on, in order, as `spec.list` says; BadInputError where there are too few of them."""
        if spec.list == NOTHING:
            return []
        if spec.list == "attribution":
            raise BadInputError(f"calibration: {self.layout.name} has no ATTRIBUTION.csv; use list: seeded or first")
        if spec.list not in ("seeded", "first"):
            return enough(self._items(self._named(spec)[: spec.images]), spec)
        every = self.layout.listing(self.root, spec.split or self.layout.trained)
        return enough(every[: spec.images] if spec.list == "first" else draw(every, spec.images, spec.seed), spec)

    def training(self) -> list[Item]:
        """Every image of the training split."""
        return self.layout.listing(self.root, self.layout.trained)

    def content(self, items: Sequence[Item]) -> list[str]:
        """For each image the sha256 of its file and of what is known of it; BadInputError where one cannot be read."""
        pairs = zip(self.pictures(items), self.layout.known(self.root, items), strict=True)
        return [hashlib.sha256("\0".join(pair).encode()).hexdigest() for pair in pairs]

    def pictures(self, items: Sequence[Item]) -> list[str]:
        """The sha256 of each image's file alone; BadInputError where one cannot be read."""
        return identity.content(self.root, [item.path for item in items])

    def identity(self, *, limit: int | None, spec: Calibration, wants: Collection[str]) -> dict[str, str]:
        """See `vitq.datasets.identity.data_identity`."""
        if "training" in wants:
            check_augment(spec)
        return identity.identities(
            self.limited(limit),
            self.content,
            limit=limit,
            spec=spec,
            wants=wants,
            calibration=lambda: self.calibration(spec),
            source=lambda: spec.taken(self.layout.trained) or self._named(spec),
            training=self.training,
        )

    def _named(self, spec: Calibration) -> list[str]:
        return read_list(Path(spec.list))

    def _items(self, paths: Sequence[str]) -> list[Item]:
        """Images by their paths; BadInputError for a path that is none of the data set's."""
        splits = {path: self.layout.split_of(path) for path in paths}
        there = {item.path: item for split in set(splits.values()) for item in self.layout.listing(self.root, split)}
        for path, split in splits.items():
            if path not in there:
                raise BadInputError(f"calibration: {path} is no image of {self.layout.name}'s {split}")
        return [there[path] for path in paths]


def check_augment(spec: Calibration) -> None:
    """BadInputError for an augmentation that scenes do not have."""
    if spec.augment == "full":
        raise BadInputError("calibration: augment: full is of classification; scenes are trained on with light or none")


def root_of(name: str, places: Mapping[str, Path]) -> Path:
    """The folder of a data set; BadInputError where the site file names none, or one that is not there."""
    if name not in places:
        raise BadInputError(
            f'the folder of data set {name} is not known: add {name} = "/path/to/it" under [datasets] in the site file'
        )
    if not places[name].is_dir():
        raise BadInputError(f"data set folder {places[name]} is not there: correct the site file, [datasets]")
    return places[name]


def split_among(split: str, splits: Sequence[str], dataset: str) -> str:
    """The split itself; BadInputError where the data set has none of that name."""
    if split not in splits:
        raise BadInputError(f"{dataset} has no split {split!r}; {nearest(split, splits)}")
    return split


def for_scenes(how: object, dataset: str) -> ScenePreprocessing:
    """The preprocessing itself; BadInputError where it is not one of scenes (an image classifier's, say)."""
    if not isinstance(how, ScenePreprocessing):
        raise BadInputError(
            f"{dataset} holds scenes of any size, which the model's preprocessing ({type(how).__name__}) cannot take: "
            "give a model of detection or segmentation"
        )
    return how

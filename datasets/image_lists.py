"""Which images of a folder a cell reads, and how their labels are told to a model; made without torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitq.datasets import identity
from vitq.datasets.calibration import Calibration
from vitq.datasets.listing import Item


@dataclass(frozen=True)
class ImageLists:
    """The lists of one folder of images, each made when it is asked for.

    `evaluated` takes a limit, `calibrated` and `source` what a cell asks for; `training` is None where there is nothing
    to train on. `classes` is how many a model tells apart; `indices` are its class indices by the labels of the items,
    None where the labels are the indices.
    """

    root: Path
    classes: int
    evaluated: Callable[[int | None], list[Item]]
    calibrated: Callable[[Calibration], list[Item]]
    source: Callable[[Calibration], object]
    training: Callable[[], list[Item]] | None
    indices: tuple[int, ...] | None = None

    def content(self, items: Sequence[Item]) -> list[str]:
        """sha256 of each image file; BadInputError where one cannot be read."""
        return identity.content(self.root, [item.path for item in items])

    def served(self, items: Sequence[Item]) -> list[Item]:
        """The items labelled by the model's class indices."""
        if self.indices is None:
            return list(items)
        return [Item(item.path, self.indices[item.label]) for item in items]

    def identities(self, *, limit: int | None, spec: Calibration, wants: Collection[str]) -> dict[str, str]:
        """See `vitq.datasets.identity.data_identity`."""
        return identity.identities(
            self.evaluated(limit),
            self.content,
            limit=limit,
            spec=spec,
            wants=wants,
            calibration=lambda: self.calibrated(spec),
            source=lambda: self.source(spec),
            training=self.training or (lambda: []),
        )

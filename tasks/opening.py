"""How every task opens a data set: by its name, for a model's preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitq.datasets.base import ByClasses, Dataset
from vitq.datasets.calibration import Calibration
from vitq.datasets.identity import check_limit
from vitq.datasets.registry import DATASETS
from vitq.errors import BadInputError
from vitq.tasks.base import Data, LoadedModel, Places


class Opening:
    """A task's `open_data`."""

    name: str

    def open_data(
        self,
        dataset: str,
        loaded: LoadedModel,
        places: Places,
        *,
        limit: int | None,
        seed: int,
        calibration: Mapping[str, Any],
    ) -> Data:
        """The data set as this model wants it; `seed` shuffles and augments training.

        Raises BadInputError for a data set of another task, or one whose folder is missing or unreadable.
        """
        return self.open_dataset(
            DATASETS.load(dataset), loaded, places, limit=limit, seed=seed, calibration=calibration
        )

    def open_dataset(
        self,
        given: Dataset,
        loaded: LoadedModel,
        places: Places,
        *,
        limit: int | None,
        seed: int,
        calibration: Mapping[str, Any],
    ) -> Data:
        """As `open_data`, of a data set that need not be known by its name."""
        given = _fitting(given, loaded)
        if given.task != self.name:
            raise BadInputError(f"data set {given.name} is for {given.task}, not for {self.name}: give one of its own")
        check_limit(limit)
        spec = Calibration.parse(calibration)
        return given.open(loaded.preprocessing, spec, places.datasets, limit=limit, seed=seed, workers=places.workers)


def _fitting(given: Dataset, loaded: LoadedModel) -> Dataset:
    """The data set with labels that this model can tell; BadInputError where they cannot be the model's own.

    Only a classifier says how many classes it tells apart (`num_classes`, as timm's models do); of any other, nothing
    is asked. One that tells fewer apart than ours have is refused where it is evaluated, by its outputs.
    """
    count = getattr(loaded.model, "num_classes", None)
    if given.task != "classification" or not isinstance(count, int):
        return given
    if isinstance(given, ByClasses):
        return given.of_classes(count)
    if count > given.classes:
        raise BadInputError(
            f"data set {given.name} has {given.classes} classes, but {loaded.name} tells {count} apart: give a "
            "model of as many"
        )
    return given

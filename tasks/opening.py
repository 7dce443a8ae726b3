"""How every task opens a data set: by its name, for a model's preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitq.datasets.base import Dataset
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
        if given.task != self.name:
            raise BadInputError(f"data set {given.name} is for {given.task}, not for {self.name}: give one of its own")
        check_limit(limit)
        spec = Calibration.parse(calibration)
        return given.open(loaded.preprocessing, spec, places.datasets, limit=limit, seed=seed, workers=places.workers)

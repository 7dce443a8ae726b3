"""What a task offers the harness. A task knows models and data; it knows no method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitq.datasets.base import Data
from vitq.errors import BadInputError
from vitq.tasks.names import ModelEntry
from vitq.tasks.places import Places

__all__ = ["BadInputError", "Data", "LoadedModel", "Measured", "Places", "Progress", "Task"]


@dataclass(frozen=True)
class LoadedModel:
    """An FP model in eval mode with what belongs to its weights.

    `size` [C, H, W], `mean`, `std`, `crop_pct` and `interpolation` are the preprocessing its paper used; `expected`
    holds, by data set, the metrics it should reach in FP32 on all of the validation data (percent), where a source
    gives them; `weights_sha256` is of the weights file, or of the parameters where the hub gave them.
    """

    name: str
    model: nn.Module
    size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights_sha256: str | None
    expected: dict[str, dict[str, float]] = field(default_factory=dict)
    crop_pct: float = 0.875
    interpolation: str = "bicubic"


@dataclass(frozen=True)
class Measured:
    """A metric: value in percent, number of samples, standard error in percentage points (None if unknown).

    `outcomes` [n], bool: whether each sample was right, in the order of `Data.names`; None where a metric is no share.
    """

    value: float
    n: int
    stderr: float | None
    outcomes: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)


class Progress(Protocol):
    """Called as `progress(phase, done, total)`; `total` 0 means unknown."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Tell where a phase is."""


class Task(Protocol):
    """One task; `version` changes when its metrics change for the same model."""

    name: str
    version: int
    metrics: tuple[str, ...]

    def build_model(self, name: str) -> nn.Module:
        """The architecture without weights (random values); for accounting. BadInputError for an unknown name."""

    def build_entry(self, entry: ModelEntry) -> nn.Module:
        """The architecture that an entry describes, with random values, in eval mode; a saved model is put into it."""

    def load_model(self, name: str, places: Places) -> LoadedModel:
        """The FP model with its weights; BadInputError when they are missing or belong to another model."""

    def open_data(
        self,
        dataset: str,
        loaded: LoadedModel,
        places: Places,
        *,
        limit: int | None,
        seed: int,
        calibration: dict[str, Any],
    ) -> Data:
        """Open a data set; BadInputError when the folder is missing, unsorted by class or unreadable."""

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Run a model on a batch, on the device of the model's parameters."""

    def loss(self, output: Any, batch: Any) -> Tensor:
        """Supervised loss, averaged over the batch."""

    def distance(self, left: Any, right: Any) -> Tensor:
        """Mean absolute difference of two outputs."""

    def distill(self, student: Any, teacher: Any) -> Tensor:
        """Distillation loss of a student against a teacher."""

    def synthesize(self, images: Tensor, generator: torch.Generator, loaded: LoadedModel) -> Any:
        """A batch of these images [B, C, H, W] (normalized space) with random labels drawn from the generator."""

    def evaluate(self, model: nn.Module, data: Data, progress: Progress) -> dict[str, Measured]:
        """The task's metrics on the validation data."""

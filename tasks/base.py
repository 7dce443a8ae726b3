"""What a task offers the harness: models with their weights, data, a metric, and the subject that a method gets.

A task knows models and data; it knows no method. It alone looks inside a batch or an output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitq.datasets.base import Data, Dataset
from vitq.datasets.preprocessing import Preprocessing
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.errors import BadInputError
from vitq.outcomes import Outcome
from vitq.subject import WHOLE, Batch, Output, Progress, Subject, silent
from vitq.tasks.names import ModelEntry
from vitq.tasks.places import Places

__all__ = [
    "BadInputError",
    "Compilable",
    "Data",
    "LoadedModel",
    "Measured",
    "Places",
    "Preprocessing",
    "Progress",
    "Task",
]


@dataclass(frozen=True)
class LoadedModel:
    """An FP model in eval mode with what belongs to its weights.

    `preprocessing` is what its paper used; `expected` holds, by data set, the metrics it should reach in FP32 on all of
    the validation data (percent), where a source gives them; `weights_sha256` is of the weights file, or of the
    parameters where the hub gave them.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing | ScenePreprocessing
    weights_sha256: str | None
    expected: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """A metric: value in percent, number of samples, standard error in percentage points (None if unknown).

    `outcomes` are in the order of `Data.names`: whether each sample was right, [n] bool, or what else the metric can be
    computed from again; None where nothing of the kind is known.
    """

    value: float
    n: int
    stderr: float | None
    outcomes: NDArray[np.bool_] | Outcome | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Compilable:
    """What of a model a runtime compiles: a module that maps one tensor to one tensor.

    `tensor` is what the module takes of the batch it was asked for; `whole` makes of a compiled form of the module what
    computes the model's output of a batch. `part` is the path of what is compiled in the model, `model` for all of it.
    """

    part: str
    module: nn.Module
    tensor: Tensor
    whole: Callable[[Callable[[Tensor], Tensor]], Callable[[Batch], Output]]


class Task(Protocol):
    """One task; `version` changes when its metrics change for the same model."""

    name: str
    version: int

    def unsupported(self) -> str | None:
        """Why no model of this task can be built here (a package that is not installed); None where they can."""

    def build_model(self, name: str) -> nn.Module:
        """The architecture without weights (random values), in eval mode. BadInputError for an unknown name."""

    def build_entry(self, entry: ModelEntry) -> nn.Module:
        """The architecture that an entry describes, with random values, in eval mode; a saved model is put into it."""

    def load_model(self, name: str, places: Places) -> LoadedModel:
        """The FP model with its weights; BadInputError when they are missing or belong to another model."""

    def load_entry(self, entry: ModelEntry, places: Places) -> LoadedModel:
        """As `load_model`, of an entry that need not be known by its name."""

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
        """Open a data set; BadInputError when the folder is missing, unsorted by class or unreadable."""

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

    def subject(
        self,
        loaded: LoadedModel,
        data: Data,
        *,
        scope: str = WHOLE,
        seed: int = 0,
        device: torch.device | str = "cpu",
        artifacts: Path = Path(),
        progress: Progress = silent,
    ) -> Subject:
        """What a method is given: a copy of the model with `data` and the functions that look inside its batches."""

    def forward(self, model: nn.Module, batch: Batch) -> Output:
        """Run a model on a batch, on the device of the model's parameters."""

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Supervised loss, a scalar averaged over the batch."""

    def digest(self, output: Output) -> str:
        """sha256 of an output's bytes: two outputs that agree in it agree bit for bit."""

    def example(
        self,
        preprocessing: Preprocessing | ScenePreprocessing,
        n: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> Batch:
        """A batch of `n` samples for counting, tracing and timing; on `meta` nothing is drawn."""

    def compilable(self, model: nn.Module, batch: Batch) -> Compilable:
        """What of a model a runtime compiles for a batch, the whole of it or its backbone."""

    def evaluate(self, model: nn.Module, data: Data, progress: Progress) -> dict[str, Measured]:
        """The task's metrics on the validation data."""

    def judge_all(self, model: nn.Module, batches: Iterable[Batch], progress: Progress, total: int) -> list[Any]:
        """What the metrics are made of, an entry a batch; picklable, so that workers may share the batches."""

    def metrics(self, data: Data, judged: Sequence[Any]) -> dict[str, Measured]:
        """What `evaluate` gives, of what `judge_all` said of every validation batch in their order."""

    def pictures(self, before: nn.Module, after: nn.Module, data: Data) -> dict[str, bytes]:
        """PNGs of what two models say of the first validation images, by name; empty where there is nothing to draw.

        Names are `predictions before 1`, `predictions after 1`, and so on.
        """

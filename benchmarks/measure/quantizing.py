"""A method at work on a loaded model: the one way in which cells and the Python interface quantize and save."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vitq.benchmarks.measure.chosen import Chosen
from vitq.benchmarks.measure.sizes import stored_tensors
from vitq.methods.base import Quantized
from vitq.methods.toolkit import saving
from vitq.record import Calibrated
from vitq.subject import Batch, Progress, Subject, silent
from vitq.tasks.base import Data, LoadedModel, Task

DISK_SLACK = 0.02
"""How far what a file holds may be from the packed size that is counted."""


@dataclass
class Quantizing:
    """One method on one loaded model and its data.

    The calibration and training data are counted as the method reads them, and refused where its card does not say that
    it does. `batch` is how many images a calibration batch holds.
    """

    task: Task
    chosen: Chosen
    loaded: LoadedModel
    data: Data
    seed: int = 0
    device: torch.device | str = "cpu"
    artifacts: Path = Path()
    progress: Progress = silent
    batch: int | None = None
    batches: int = field(default=0, init=False)

    def run(self) -> Quantized:
        """The quantized model, made of a copy of the loaded one; the global generators are the caller's to seed."""
        return self.chosen.module.quantize(self.subject(), self.chosen.widths, self.chosen.values)

    def subject(self) -> Subject:
        """The task's subject, its data read through this; what pictures alone look at is not."""
        guarded = replace(self.data, calibration=self.calibration, training=self.training)
        made = self.task.subject(
            self.loaded, guarded, scope=self.chosen.scope, seed=self.seed, device=self.device,
            artifacts=self.artifacts, progress=self.progress,
        )  # fmt: skip
        validate = made.validate if self.data.n_validation else None
        return replace(made, look=self.data.calibration, validate=validate)

    def calibration(self) -> Iterator[Batch]:
        """The calibration batches, always the same."""
        self._allow("calibration")
        for number, batch in enumerate(self.data.calibration(), start=1):
            self.batches = max(self.batches, number)
            yield batch

    @property
    def training(self) -> Callable[[int], Iterator[Batch]] | None:
        """The training batches of an epoch; None where there are none."""
        source = self.data.training
        if source is None:
            return None

        def read(epoch: int) -> Iterator[Batch]:
            self._allow("training")
            return source(epoch)

        return read

    def _allow(self, what: str) -> None:
        if not self.chosen.reads(what):
            raise RuntimeError(
                f"{self.chosen.method} reads {what} data, and its card does not say so: what decides its numbers would "
                "not be in their identity"
            )

    def calibrated(self) -> Calibrated | None:
        """How many images were read of how many given; None where none was."""
        if not self.batches:
            return None
        given = len(self.data.calibration_list.splitlines())
        size = self.batch or given
        return Calibrated(read=min(given, self.batches * size), given=given, evaluated=self.data.calibration_overlap)


def save(done: Quantized, path: Path, header: dict[str, Any]) -> saving.SavedFile:
    """Write a quantized model to its file; warns where what it holds is not what size counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = saving.save(done, path, header)
    counted = sum(tensor.bytes for tensor in stored_tensors(done.model))
    if abs(saved.payload_bytes - counted) > DISK_SLACK * counted:
        warnings.warn(
            f"the model's file holds {saved.payload_bytes:,} bytes beside its header, and {counted:,} were counted",
            UserWarning,
            stacklevel=2,
        )
    return saved

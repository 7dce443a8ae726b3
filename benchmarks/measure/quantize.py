"""The quantized model: made by the method, written to its file, and read back from it for whatever is measured."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from vitq.benchmarks.measure.bench import Bench
from vitq.benchmarks.measure.sizes import stored_tensors
from vitq.methods.base import Quantized
from vitq.methods.toolkit import saving
from vitq.record import Calibrated, ModelFile, Record
from vitq.saved import load_quantized
from vitq.subject import Batch, InputSpec, Subject
from vitq.tasks.base import Data
from vitq.tasks.names import model_entry

DISK_SLACK = 0.02
"""How far what a file holds may be from the packed size that is counted."""


class Restored(NamedTuple):
    """A quantized model as its file has it, and how it computes."""

    model: nn.Module
    exec: str


def quantize(bench: Bench) -> Record:
    """Run the method and save what it made; the record of the model."""
    order = bench.order
    order.artifacts.mkdir(parents=True, exist_ok=True)
    with bench.phase("quantize"):
        reading = _Reading(bench.data, bench)
        done = bench.method.quantize(_job(bench, reading), bench.options)
    bench.notes.details.update(done.details)
    bench.notes.files.update({name: bench.relative(path) for name, path in done.files.items()})
    calibrated = reading.calibrated()
    if calibrated is not None:
        bench.keep("calibration", order.artifacts / "calibration.txt", bench.data.calibration_list.encode())
    with bench.phase("save"):
        file = _save(bench, done)
    return bench.record("model", status="done", model_file=file, calibrated=calibrated)


def _save(bench: Bench, done: Quantized) -> ModelFile:
    order, cell = bench.order, bench.order.cell
    entry = model_entry(cell.model).model_dump(mode="json", by_alias=True)
    header = saving.header_of(
        method=cell.method,
        options=cell.options,
        bits=cell.bits,
        scope=cell.scope,
        facts=done.facts,
        exec=done.exec,
        architecture={"task": cell.task, "model": entry},
        identity=order.identities.own["model"],
    )
    order.model_path.parent.mkdir(parents=True, exist_ok=True)
    saved = saving.save(done, order.model_path, header)
    _agree(saved, sum(tensor.bytes for tensor in stored_tensors(done.model)))
    return ModelFile(
        path=bench.relative(saved.path), sha256=saved.sha256, bytes=saved.bytes, header_bytes=saved.header_bytes,
        kept=order.keep_model,
    )  # fmt: skip


def _agree(saved: saving.SavedFile, counted: int) -> None:
    """Warn where what the file holds is not what size counts: one of the two would be wrong."""
    if abs(saved.payload_bytes - counted) > DISK_SLACK * counted:
        warnings.warn(
            f"the model's file holds {saved.payload_bytes:,} bytes beside its header, and {counted:,} were counted",
            UserWarning,
            stacklevel=2,
        )


def restore(bench: Bench) -> Restored:
    """The model from its file, on the cell's device in eval mode: what accuracy and latency are measured on."""
    with bench.phase("restore"):
        loaded = load_quantized(bench.order.model_path, bench.order.device)
        loaded.model.eval()
    return Restored(loaded.model, loaded.exec)


class _Reading:
    """The calibration and training data as a method reads them: counted, and refused where its card does not say so."""

    def __init__(self, data: Data, bench: Bench) -> None:
        self.data, self.card, self.cell = data, bench.card, bench.order.cell
        self.batches = 0

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
        if not self.card.reads_data(what, self.cell.options):
            raise RuntimeError(
                f"{self.card.name} reads {what} data, and its card does not say so: what decides its numbers would not "
                "be in their identity"
            )

    def calibrated(self) -> Calibrated | None:
        """How many images were read of how many given; None where none was."""
        if not self.batches:
            return None
        given = len(self.data.calibration_list.splitlines())
        size = int(self.cell.calibration.get("batch", given))
        return Calibrated(read=min(given, self.batches * size), given=given, evaluated=self.data.calibration_overlap)


def _job(bench: Bench, reading: _Reading) -> Subject:
    order, task, data, loaded = bench.order, bench.task, bench.data, bench.loaded
    return Subject(
        model=copy.deepcopy(loaded.model),
        bits=bench.bits,
        calibration=reading.calibration,
        look=data.calibration,
        forward=task.forward,
        loss=task.loss,
        distance=task.distance,
        distill=task.distill,
        synthesize=lambda images, generator: task.synthesize(images, generator, loaded),
        input=InputSpec(loaded.size, loaded.mean, loaded.std),
        training=reading.training,
        validate=lambda model: {k: m.value for k, m in task.evaluate(model, data, bench.tell.phase).items()},
        seed=order.cell.seed,
        device=torch.device(order.device),
        artifacts=order.artifacts,
        progress=bench.tell.phase,
    )


@contextmanager
def dropped_after(bench: Bench) -> Iterator[None]:
    """Drop the model's file at the end where the suite does not keep it."""
    try:
        yield
    finally:
        if not bench.order.keep_model:
            bench.order.model_path.unlink(missing_ok=True)

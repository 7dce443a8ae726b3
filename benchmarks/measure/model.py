"""Making the quantized model: by the method, of the subject that the task makes, and written to its file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

from vitq.benchmarks.measure.bench import Bench
from vitq.benchmarks.measure.sizes import stored_tensors
from vitq.methods.base import Quantized
from vitq.methods.toolkit import saving
from vitq.record import Calibrated, ModelFile, Record
from vitq.subject import Batch, Subject

DISK_SLACK = 0.02
"""How far what a file holds may be from the packed size that is counted."""


def measure(bench: Bench) -> Iterator[Record]:
    """Run the method, save what it made, and read it back: the record of the model."""
    order = bench.order
    order.artifacts.mkdir(parents=True, exist_ok=True)
    with bench.phase("quantize"):
        reading = _Reading(bench)
        done = bench.method.quantize(reading.subject(), bench.bits, bench.options)
    bench.notes.files.update({name: bench.relative(path) for name, path in done.files.items()})
    calibrated = reading.calibrated()
    if calibrated is not None:
        bench.keep("calibration", order.artifacts / "calibration.txt", bench.data.calibration_list.encode())
    with bench.phase("save"):
        file = _save(bench, done)
    yield bench.record("model", model_file=file, calibrated=calibrated, details=done.details)
    del done
    bench.quantized  # noqa: B018 - a file that cannot be read back is a failure of this measurement


def _save(bench: Bench, done: Quantized) -> ModelFile:
    order, cell = bench.order, bench.order.cell
    entry = bench.entry.model_dump(mode="json", by_alias=True)
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


class _Reading:
    """The calibration and training data as a method reads them: counted, and refused where its card does not say so."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.data, self.card, self.cell = bench, bench.data, bench.card, bench.order.cell
        self.batches = 0

    def subject(self) -> Subject:
        """The task's subject, its data read through this; what pictures alone look at is not."""
        order, guarded = self.bench.order, replace(self.data, calibration=self.calibration, training=self.training)
        made = self.bench.task.subject(
            self.bench.loaded, guarded, scope=self.cell.scope, seed=self.cell.seed, device=order.device,
            artifacts=order.artifacts, progress=self.bench.link.phase,
        )  # fmt: skip
        return replace(made, look=self.data.calibration)

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

"""What the measurements of one cell share: its method, FP model, data and quantized model, loaded when asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import torch
from torch import nn

from vitq.benchmarks.measure.chosen import Chosen
from vitq.benchmarks.run.messages import Link, Order
from vitq.benchmarks.run.shipping import write_whole
from vitq.details import Details
from vitq.errors import BadInputError
from vitq.methods.toolkit import devices
from vitq.record import (
    Calibrated,
    Identity,
    LatencyAround,
    LatencyRow,
    Metric,
    ModelFile,
    Name,
    Operations,
    Provenance,
    Record,
    Size,
    Status,
    key_of,
    kind_of,
)
from vitq.saved import load_quantized
from vitq.subject import Batch, Output
from vitq.tasks.base import Data, LoadedModel, Task
from vitq.tasks.names import ModelEntry, model_entry
from vitq.tasks.registry import load as load_task

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass
class Notes:
    """What is gathered for a record, kept when a measurement fails half-way."""

    seconds: dict[str, float] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Found(TypedDict, total=False):
    """What a measurement found, by the fields of its record."""

    metrics: dict[str, Metric]
    outcomes: str | None
    output_sha256: str
    size: Size
    operations: Operations
    latency: list[LatencyRow]
    latency_around: dict[str, LatencyAround]
    model_file: ModelFile
    calibrated: Calibrated | None
    details: Details


class Restored(NamedTuple):
    """A quantized model as its file has it, and how it computes."""

    model: nn.Module
    exec: str


@dataclass
class Bench:
    """One cell's order and what its measurements share; `notes` are those of the measurement that is under way."""

    order: Order
    link: Link
    notes: Notes = field(default_factory=Notes)

    @cached_property
    def task(self) -> Task:
        """The cell's task."""
        return load_task(self.order.cell.task)

    @cached_property
    def chosen(self) -> Chosen:
        """The cell's method with its options, widths and scope."""
        cell = self.order.cell
        return Chosen(cell.method, cell.options, cell.bits, cell.scope)

    @cached_property
    def entry(self) -> ModelEntry:
        """What is known of the cell's model."""
        return model_entry(self.order.cell.model)

    @property
    def counted_on_model(self) -> bool:
        """Whether size and operations are those of the quantized model itself, whose widths depend on data."""
        return self.chosen.card.widths_depend_on_data and "model" in self.order.identities.own

    @cached_property
    def device(self) -> torch.device:
        """Where the cell computes."""
        return torch.device(self.order.device)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The FP model with its weights, in eval mode on the device."""
        with self.phase("load"):
            loaded = self.task.load_model(self.order.cell.model, self.order.site.places())
            loaded.model.to(self.device).eval()
        return loaded

    @cached_property
    def data(self) -> Data:
        """The cell's data set, opened."""
        cell = self.order.cell
        return self.task.open_data(
            cell.dataset, self.loaded, self.order.site.places(), limit=cell.limit, seed=cell.seed,
            calibration=cell.calibration,
        )  # fmt: skip

    @cached_property
    def quantized(self) -> Restored:
        """The quantized model from its file, on the device in eval mode; BadInputError where there is none to be read.

        What reading it says and costs belongs to no measurement.
        """
        kept, self.notes = self.notes, Notes()
        try:
            with self.phase("restore"):
                loaded = load_quantized(self.order.model_path, self.order.device)
        finally:
            self.notes = kept
        return Restored(loaded.model.eval(), loaded.exec)

    def has_model(self) -> bool:
        """Whether an earlier run left a quantized model that can be read."""
        try:
            return self.order.model_path.is_file() and bool(self.quantized)
        except BadInputError:
            return False

    def forward(self, model: nn.Module) -> Callable[[Batch], Output]:
        """The task's forward pass of a model."""
        return lambda batch: self.task.forward(model, batch)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase, the device waited for, and tell the driver.

        Each phase is seeded by itself, so that none depends on another's draws, nor on what the store answered.
        """
        torch.manual_seed(self.order.cell.seed)
        self.link.phase(name, 0, 0)
        devices.synchronize(self.device)
        start = time.perf_counter()
        try:
            yield
        finally:
            devices.synchronize(self.device)
            self.notes.seconds[name] = round(time.perf_counter() - start, 4)

    def record(
        self,
        name: Name,
        status: Status = "done",
        *,
        identity: Identity | None = None,
        error: str | None = None,
        traceback: str | None = None,
        **found: Unpack[Found],
    ) -> Record:
        """A record of this cell with the notes taken; the notes start anew."""
        notes, self.notes = self.notes, Notes()
        identity = identity or self.order.identities.own[name]
        return Record(
            kind=kind_of(name),
            key=key_of(identity),
            identity=identity,
            cell=self.order.cell,
            status=status,
            fidelity=self.chosen.card.fidelity,
            seconds=notes.seconds,
            files=notes.files,
            warnings=list(dict.fromkeys(notes.warnings)),
            peak_memory_mb=devices.peak_memory_mb(self.device),
            provenance=self.provenance(),
            error=error,
            traceback=traceback,
            **found,
        )

    def provenance(self) -> Provenance:
        """Where a record that is finished now comes from."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        facts = {"finished": now, "threads": torch.get_num_threads(), "device": self.order.device}
        return self.order.provenance.model_copy(update={**facts, "settings": devices.settings()})

    def relative(self, path: Path) -> str:
        """A path as a record holds it."""
        return path.resolve().relative_to(self.order.folder.resolve()).as_posix()

    def keep(self, name: str, path: Path, content: bytes) -> None:
        """Write a file of the record, whole or not at all."""
        write_whole(path, content)
        self.notes.files[name] = self.relative(path)

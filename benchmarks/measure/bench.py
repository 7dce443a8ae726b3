"""The state of one cell while it is measured: what its measurements share, loaded once and only when asked for."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vitq.benchmarks.run.messages import Order, Tell
from vitq.methods.base import Method
from vitq.methods.bits import Bits
from vitq.methods.cards import Card, all_cards
from vitq.methods.registry import load as load_method
from vitq.methods.toolkit import devices
from vitq.options import make_options
from vitq.record import Kind, Provenance, Record, key_of
from vitq.tasks.base import Data, LoadedModel, Task
from vitq.tasks.registry import load as load_task


@dataclass
class Notes:
    """What is gathered for a record, kept when a measurement fails half-way."""

    seconds: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass
class Bench:
    """One cell's order and what its measurements share; `notes` are those of the measurement that is under way."""

    order: Order
    tell: Tell
    notes: Notes = field(default_factory=Notes)

    @cached_property
    def task(self) -> Task:
        """The cell's task."""
        return load_task(self.order.cell.task)

    @cached_property
    def method(self) -> Method:
        """The cell's method module."""
        return load_method(self.order.cell.method)

    @cached_property
    def card(self) -> Card:
        """The method's card."""
        return all_cards()[self.order.cell.method]

    @cached_property
    def options(self) -> Any:
        """The method's options dataclass, made from the cell's."""
        return make_options(self.method.Options, self.order.cell.options)

    @cached_property
    def bits(self) -> Bits:
        """The cell's widths."""
        return Bits.parse(self.order.cell.bits)

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

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase, the device waited for, and tell the driver.

        Each phase is seeded by itself, so that none depends on another's draws, nor on what the store answered.
        """
        torch.manual_seed(self.order.cell.seed)
        self.tell.phase(name, 0, 0)
        devices.synchronize(self.device)
        start = time.perf_counter()
        try:
            yield
        finally:
            devices.synchronize(self.device)
            self.notes.seconds[name] = round(time.perf_counter() - start, 4)

    def record(self, kind: Kind, **fields: Any) -> Record:
        """A record of this cell with the notes taken; the notes start anew."""
        notes, self.notes = self.notes, Notes()
        identity = fields.pop("identity", None) or self.order.identities.own[kind]
        return Record(
            kind=kind,
            key=key_of(identity),
            identity=identity,
            cell=fields.pop("cell", self.order.cell),
            fidelity=fields.pop("fidelity", self.card.fidelity),
            seconds=notes.seconds,
            details=json.loads(json.dumps(notes.details, default=float)),
            files=notes.files,
            warnings=list(dict.fromkeys(notes.warnings)),
            peak_memory_mb=devices.peak_memory_mb(self.device),
            provenance=self.provenance(),
            **fields,
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
        write_atomically(path, content)
        self.notes.files[name] = self.relative(path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}.half")
    half.write_bytes(content)
    half.replace(path)

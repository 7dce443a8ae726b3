"""Messages between the process that drives a run and its workers: orders one way, progress and records the other.

All are picklable: a worker may be a process that knows nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vitq.benchmarks.plan.identity import Identities
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.plan.suite import Latency
from vitq.datasets.base import Dataset
from vitq.datasets.registry import registered_datasets
from vitq.record import Asked, CellKey, Name, Provenance, Record, key_of
from vitq.subject import Progress
from vitq.tasks.names import ModelEntry, registered_models


class Part(NamedTuple):
    """One of `of` parts of an evaluation, counted from 0: consecutive batches of the validation data."""

    number: int
    of: int


Evaluated = Mapping[str, Sequence[Any]]
"""By the key of an accuracy: what the task found in some batches, an entry a batch, to make the metrics of."""


@dataclass(frozen=True)
class Order:
    """One cell to be worked on: which of its measurements, and everything they need.

    `wanted` have no finished record yet; `fp32_wanted` whether the FP32 accuracy has none. `folder`
    is the results folder; artifacts and the model's file have names that follow from the keys. `keep_model` says
    whether the file stays when the cell is done. `models` and `datasets` are those that its maker had registered.
    `split` is how many workers its evaluation may be given to. Where `part` is given, nothing but these batches are
    evaluated, and no record is made; `evaluated` is what others found in all of them, which then is not done again.
    """

    cell: CellKey
    identities: Identities
    site: Site
    folder: Path
    provenance: Provenance
    wanted: tuple[Name, ...] = ()
    fp32_wanted: bool = False
    latency: Latency | None = None
    latency_threads: int = 1
    threads: int = 1
    device: str = "cpu"
    keep_model: bool = True
    paper_name: str | None = None
    models: tuple[ModelEntry, ...] = field(default_factory=registered_models)
    datasets: tuple[Dataset, ...] = field(default_factory=registered_datasets)
    added_by: dict[str, str] = field(default_factory=dict)
    split: int = 1
    part: Part | None = None
    evaluated: Evaluated = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What names this work in locks and folders: cells with the same work have the same name."""
        own = self.identities.own
        return key_of(own["model"] if "model" in own else own["counts"])[:16]

    @property
    def artifacts(self) -> Path:
        """Folder for files of this model's record; the same for the same inputs, so that training can resume."""
        return self.folder / "artifacts" / self.name

    @property
    def model_path(self) -> Path:
        """The quantized model's file."""
        return self.folder / "models" / f"{self.name}.safetensors"

    @property
    def asked(self) -> Asked:
        """The line that joins the cell to its measurements."""
        found = self.identities
        return Asked(
            cell=self.cell, keys=found.keys, fp32_key=found.fp32_key, paper_name=self.paper_name,
            added_by=self.added_by, provenance=self.provenance,
        )  # fmt: skip


@dataclass(frozen=True)
class Progressed:
    """A worker is in a phase, `done` of `total` steps (0: unknown)."""

    order: Order
    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Measured:
    """A worker has finished one measurement, whichever way it ended."""

    order: Order
    record: Record


@dataclass(frozen=True)
class Finished:
    """A worker has ended. `bad_input` is the line for the user when the cell failed by bad input.

    `fatal` ends the whole run (a full disk): what was measured before has been told.
    """

    order: Order
    bad_input: str | None = None
    fatal: str | None = None


@dataclass(frozen=True)
class Died:
    """A worker is gone before it was finished; `how` says what became of it."""

    order: Order
    how: str


@dataclass(frozen=True)
class PartDone:
    """A worker has evaluated the batches of its order's part; it will still tell that it has finished."""

    order: Order
    found: Evaluated


@dataclass(frozen=True)
class Link:
    """A worker's link to the driver: `phase` is told where it is, `record` what it measured, `part` what it found."""

    phase: Progress
    record: Callable[[Record], None] = field(default=lambda _record: None)
    part: Callable[[Evaluated], None] = field(default=lambda _found: None)


Event = Progressed | Measured | PartDone | Finished | Died

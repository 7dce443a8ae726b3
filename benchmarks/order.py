"""What a worker is told: a cell and everything it needs, picklable, and what it tells back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vitq.benchmarks.record import CellKey, Provenance, Record
from vitq.benchmarks.site import Site
from vitq.benchmarks.suite import Latency


@dataclass(frozen=True)
class Order:
    """One cell to be worked on. `folder` is the results folder; artifacts go to a folder of their own in it."""

    cell: CellKey
    fingerprint: str
    site: Site
    folder: Path
    provenance: Provenance
    latency: Latency | None = None
    accounting: bool = False
    threads: int | None = None
    device: str = "cpu"

    @property
    def artifacts(self) -> Path:
        """Folder for the files of this cell's record; the same for the same inputs, so that training can resume."""
        return self.folder / "artifacts" / self.fingerprint[:16]


@dataclass(frozen=True)
class Progressed:
    """A worker is in a phase, `done` of `total` steps (0: unknown)."""

    order: Order
    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """A worker has ended. `bad_input` is the line for the user when the cell failed by bad input.

    `fatal` ends the whole run (a full disk): there is no record then.
    """

    order: Order
    record: Record | None
    bad_input: str | None = None
    fatal: str | None = None


class Send(Protocol):
    """Tells the driver of a phase: `send(phase, done, total)`, `total` 0 where it is unknown."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Tell."""


Event = Progressed | Finished

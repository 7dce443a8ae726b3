"""A run of made cells, to see what the driver itself costs: see `vitq.benchmarks.simulate_run`."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from vitq.benchmarks.plan.identity import Identities
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.run.asks import Asks
from vitq.benchmarks.run.executors import Executor, LocalExecutor
from vitq.benchmarks.run.messages import Finished, Link, Order
from vitq.benchmarks.run.runner import Summary, run
from vitq.benchmarks.run.store import Store
from vitq.record import CellKey, Operations, Provenance, Record, Size, key_of

PRELOAD = ("vitq.benchmarks.run.simulation",)

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
"""Ends a process at once; Windows, which has no SIGKILL, does so by SIGTERM."""


def order(number: int, folder: Path) -> Order:
    """A cell that asks for counts alone."""
    asked: dict[str, Any] = {"method": "fp32", "task": "classification", "model": "digits_vit", "bits": "FP32"}
    identities = Identities({"counts": {"number": str(number)}})
    return Order(
        CellKey(id=f"cell-{number}", dataset="digits", **asked), identities, Site(), folder, Provenance(vitq="0")
    )


def made(order: Order, link: Link, *, seconds: float, deaths: float) -> Finished:
    """Stands for a cell: waits, gives a record; in a share of all attempts it kills its process before."""
    link.phase("wait", 0, 1)
    time.sleep(seconds)
    if random.Random(f"{order.cell.id} {time.time_ns()}").random() < deaths:
        os.kill(os.getpid(), KILL)
    identity = order.identities.own["counts"]
    size, operations = Size(params=1, fp32_mb=4e-6, packed_mb=1e-6), Operations(macs=1, bitops=64, ops=1)
    link.record(
        Record(
            kind="counts", key=key_of(identity), identity=identity, cell=order.cell, status="done", size=size,
            operations=operations, provenance=order.provenance,
        )
    )  # fmt: skip
    return Finished(order)


@dataclass
class Watch:
    """Listens to a run, and notes the driver's memory in megabytes as cells end."""

    every: int
    memory: list[float] = field(default_factory=list)
    ends: int = 0

    def matrix(self, done: int, total: int) -> None:
        """Nothing."""

    def phase(self, cell_id: str, phase: str, done: int, total: int) -> None:
        """Nothing."""

    def ended(self, order: Order, records: Sequence[Record]) -> None:  # noqa: ARG002
        """Look at the memory once in a while."""
        self.ends += 1
        if self.ends % self.every == 0:
            self.memory.append(psutil.Process().memory_info().rss / 1e6)


@dataclass(frozen=True)
class Simulated:
    """How a simulated run went: seconds in all, the driver's time on the CPU a cell, and its memory as it went on."""

    summary: Summary
    seconds: float
    driver_ms: float
    memory: Sequence[float]
    records: int

    def __str__(self) -> str:
        first, last = (self.memory or [0.0])[0], (self.memory or [0.0])[-1]
        cells = self.summary.statuses.total()
        return (
            f"{cells} cells in {self.seconds:.1f} s, {60 * cells / self.seconds:.0f} a minute; the driver took "
            f"{self.driver_ms:.1f} ms of CPU a cell, its memory went from {first:.0f} to {last:.0f} MB; "
            + ", ".join(f"{count} {status}" for status, count in sorted(self.summary.statuses.items()))
        )


def simulate(executor: Executor, cells: int, folder: Path) -> Simulated:
    """Run so many made cells."""
    watch, orders = Watch(max(1, cells // 50)), [order(number, folder) for number in range(cells)]
    before, start = psutil.Process().cpu_times(), time.perf_counter()
    summary = run(orders, Store(folder), executor, watch)
    seconds, after = time.perf_counter() - start, psutil.Process().cpu_times()
    used = after.user + after.system - before.user - before.system
    return Simulated(summary, seconds, 1000 * used / cells, watch.memory, len(Store(folder).finished()))


def executor_of(name: str, workers: int, seconds: float, deaths: float) -> Executor:
    """The executor of this name with so many workers, whose cells are made."""
    work = partial(made, seconds=seconds, deaths=deaths)
    if name == "local":
        return LocalExecutor(workers, work=work, preload=PRELOAD)
    from vitq.benchmarks.run.cluster import Cluster
    from vitq.benchmarks.run.ray_executor import RayExecutor
    from vitq.benchmarks.run.ray_worker import Sent

    return RayExecutor(Cluster(cpus=workers), Asks(), Sent(preload=PRELOAD, work=work))

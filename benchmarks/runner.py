"""The driver: which cells still have to run, in which order, and what became of them."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from filelock import FileLock, Timeout

from vitq.benchmarks.executors import Executor
from vitq.benchmarks.order import Finished, Order, Progressed
from vitq.benchmarks.record import Record
from vitq.benchmarks.store import Store, disk_errors, is_finished
from vitq.errors import BadInputError

POLL_SECONDS = 0.25


class Listener(Protocol):
    """Told about a run as it goes on."""

    def matrix(self, done: int, total: int) -> None:
        """`done` of `total` cells have ended."""

    def phase(self, cell_id: str, phase: str, done: int, total: int) -> None:
        """A running cell's phase."""

    def ended(self, record: Record) -> None:
        """A cell has ended."""


@dataclass
class Summary:
    """What a run did: cells by status, cells that needed no run, and the lines about bad input."""

    statuses: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    bad_inputs: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 good, 2 some cell met bad input, 3 some cell failed otherwise."""
        if self.bad_inputs:
            return 2
        return 3 if self.statuses["failed"] or self.statuses["oom"] else 0


def run(orders: Sequence[Order], store: Store, executor: Executor, listener: Listener) -> Summary:
    """Run every order that has no finished record; records are appended as cells end.

    A failed cell is recorded and the others go on. Another vitq on the same folder is respected: a cell it works on is
    left to it, and taken over when it ends without a record. Raises BadInputError when the disk is full.
    """
    matrix = _Matrix(orders, store, executor, listener)
    try:
        matrix.run()
    finally:
        executor.close()
        matrix.release()
    return matrix.summary


class _Matrix:
    def __init__(self, orders: Sequence[Order], store: Store, executor: Executor, listener: Listener) -> None:
        self.store, self.executor, self.listener = store, executor, listener
        self.summary = Summary()
        self.total = len(orders)
        finished = self._finished()
        self.summary.resumed = sum(order.fingerprint in finished for order in orders)
        self.pending = deque(order for order in orders if order.fingerprint not in finished)
        self.claims: dict[str, FileLock] = {}
        self.running = 0
        self.ended = self.summary.resumed

    def run(self) -> None:
        """Until nothing is pending and nothing runs."""
        self.listener.matrix(self.ended, self.total)
        while self.pending or self.running:
            self._start()
            if not self.running:
                time.sleep(POLL_SECONDS)
                continue
            for event in self.executor.events(POLL_SECONDS):
                if isinstance(event, Progressed):
                    self.listener.phase(event.order.cell.id, event.phase, event.done, event.total)
                else:
                    self._finish(event)

    def _start(self) -> None:
        """Fill the free slots with cells that nobody else works on; look at each pending cell once."""
        for _ in range(len(self.pending)):
            if self.running >= self.executor.slots:
                return
            order = self.pending.popleft()
            if not self._claim(order):
                self.pending.append(order)
            elif order.fingerprint in self._finished():
                self._release(order)
                self._count_end()
            else:
                self.executor.submit(order)
                self.running += 1

    def _finish(self, event: Finished) -> None:
        self.running -= 1
        if event.record is None:
            raise BadInputError(event.fatal or "a worker ended without a record")
        self.store.append(event.record)
        self._release(event.order)
        self.summary.statuses[event.record.status] += 1
        if event.bad_input and event.bad_input not in self.summary.bad_inputs:
            self.summary.bad_inputs.append(event.bad_input)
        self._count_end()
        self.listener.ended(event.record)

    def _count_end(self) -> None:
        self.ended += 1
        self.listener.matrix(self.ended, self.total)

    def _finished(self) -> set[str]:
        return {r.fingerprint for r in self.store.records() if is_finished(r)}

    def _claim(self, order: Order) -> bool:
        folder = self.store.folder / ".claims"
        with disk_errors(self.store.folder):
            folder.mkdir(exist_ok=True)
            lock = FileLock(folder / f"{order.fingerprint[:16]}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                return False
        self.claims[order.fingerprint] = lock
        return True

    def _release(self, order: Order) -> None:
        self.claims.pop(order.fingerprint).release()

    def release(self) -> None:
        """Give back every claim."""
        for lock in self.claims.values():
            lock.release()

"""The driver: which measurements still have to be made, in which order, and what became of them."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from filelock import FileLock, Timeout

from vitq.benchmarks.run.executors import Executor
from vitq.benchmarks.run.failures import lost
from vitq.benchmarks.run.messages import Died, Event, Finished, Measured, Order, Progressed
from vitq.benchmarks.run.store import FolderGoneError, Store, disk_errors
from vitq.errors import BadInputError
from vitq.record import Identity, Kind, Name, Record, Status, kind_of

POLL_SECONDS = 0.25


class Listener(Protocol):
    """Told about a run as it goes on."""

    def matrix(self, done: int, total: int) -> None:
        """`done` of `total` cells have ended."""

    def phase(self, cell_id: str, phase: str, done: int, total: int) -> None:
        """A running cell's phase."""

    def ended(self, order: Order, records: Sequence[Record]) -> None:
        """A cell has ended, with these records."""


@dataclass
class Summary:
    """What a run did: measurements by status, cells that needed no run, and the lines about bad input.

    `gone` is the line about a results folder that was deleted under the run.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    bad_inputs: list[str] = field(default_factory=list)
    gone: str | None = None

    @property
    def exit_code(self) -> int:
        """0 good, 2 some cell met bad input, 3 some cell failed otherwise."""
        if self.bad_inputs:
            return 2
        return 3 if self.gone or self.statuses["failed"] or self.statuses["oom"] else 0


def run(orders: Sequence[Order], store: Store, executor: Executor, listener: Listener) -> Summary:
    """Make every measurement that has no finished record; records are appended as they are told.

    A failed cell is recorded and the others go on; one whose worker dies goes to another worker, as often as the
    executor allows. Latency is measured while nothing else runs on its machine: in its cell's own turn where cells run
    one by one, else after all of them. Another vitq on the same folder is respected: work that it has in hand is left
    to it, and taken over when it ends without a record. Raises BadInputError when the disk is full.
    """
    summary = Summary()
    passes = [orders] if executor.slots == 1 else [[_without_latency(order) for order in orders], orders]
    try:
        for number, some in enumerate(passes):
            matrix = _Matrix(some, store, executor, listener, summary, again=number > 0)
            try:
                matrix.run()
            finally:
                matrix.release()
    except FolderGoneError as error:
        summary.gone = str(error)
    finally:
        executor.close()
    return summary


def _without_latency(order: Order) -> Order:
    every = order.identities.own
    own: dict[Name, Identity] = {name: every[name] for name in every if kind_of(name) != "latency"}
    return replace(order, identities=replace(order.identities, own=own), latency=None)


def wanted(order: Order, finished: Mapping[tuple[Kind, str], str]) -> tuple[Name, ...]:
    """The measurements that have to be made: a model that is unsupported has none but its counts."""
    keys = order.identities.keys
    model = finished.get(("model", keys.get("model", "")))
    left = tuple(name for name, key in keys.items() if (kind_of(name), key) not in finished)
    return tuple(name for name in left if name == "counts") if model == "unsupported" else left


class _Matrix:
    """One pass over the orders: what is pending, what runs, and who has claimed what.

    `again` is the second pass, in which cells run alone and those that need no run were counted before.
    """

    def __init__(
        self,
        orders: Sequence[Order],
        store: Store,
        executor: Executor,
        listener: Listener,
        summary: Summary,
        again: bool,
    ) -> None:
        self.store, self.executor, self.listener, self.summary, self.again = store, executor, listener, summary, again
        self.deaths: dict[str, list[str]] = {}
        self.total, self.running, self.ended = len(orders), 0, 0
        self.records: dict[str, list[Record]] = {}
        self.claims: dict[str, FileLock] = {}
        self.pending: deque[Order] = deque()
        finished = store.finished()
        for order in orders:
            if self._left(order, finished):
                self.pending.append(order)
            else:
                self._resume(order)

    def _left(self, order: Order, finished: Mapping[tuple[Kind, str], Status]) -> tuple[Name, ...]:
        """What is to be made in this pass: in the second, the times of cells in whose first turn all went well."""
        left = wanted(order, finished)
        if not self.again:
            return left
        if {"model", "accuracy"} & set(left):
            return ()
        return tuple(name for name in left if kind_of(name) == "latency")

    def _resume(self, order: Order) -> None:
        """Take note of a cell that needs no run: its measurements are there."""
        self.store.append(order.asked)
        self.summary.resumed += not self.again
        self.ended += 1

    def run(self) -> None:
        """Until nothing is pending and nothing runs."""
        self.listener.matrix(self.ended, self.total)
        while self.pending or self.running:
            self._start()
            if not self.running:
                time.sleep(POLL_SECONDS)
                continue
            for event in self.executor.events(POLL_SECONDS):
                self._hear(event)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Progressed):
            self.listener.phase(event.order.cell.id, event.phase, event.done, event.total)
        elif isinstance(event, Measured):
            self._keep(event.order, event.record)
        elif isinstance(event, Died):
            self._bury(event)
        elif isinstance(event, Finished):
            self._finish(event)

    def _keep(self, order: Order, record: Record) -> None:
        self.store.append(record)
        self.summary.statuses[record.status] += 1
        self.records.setdefault(order.cell.id, []).append(record)

    def _bury(self, event: Died) -> None:
        """Give a dead worker's cell to another, without what it had told; after too many, record what it died of."""
        order, told = event.order, {record.key for record in self.records.get(event.order.cell.id, ())}
        deaths = self.deaths.setdefault(order.cell.id, [])
        deaths.append(event.how)
        left = tuple(n for n in wanted(order, self.store.finished()) if order.identities.keys[n] not in told)
        if left and len(deaths) < self.executor.attempts:
            self._submit(order, left)
            return
        del self.deaths[order.cell.id]
        self._keep(order, lost(order, told, deaths))
        self._finish(Finished(order))

    def _start(self) -> None:
        """Fill the free slots with cells that nobody else works on; look at each pending cell once."""
        for _ in range(len(self.pending)):
            if self.running >= (self.executor.alone if self.again else self.executor.slots):
                return
            order = self.pending.popleft()
            if not self._claim(order):
                self.pending.append(order)
                continue
            finished = self.store.finished()
            kinds = self._left(order, finished)
            if kinds:
                self.running += 1
                self._submit(order, kinds)
            else:
                self._release(order)
                self._resume(order)
                self.listener.matrix(self.ended, self.total)

    def _submit(self, order: Order, kinds: tuple[Name, ...]) -> None:
        """Hand over a cell; its evaluation may be split over the slots that no cell is left for."""
        missing = ("accuracy", order.identities.fp32_key or "") not in self.store.finished()
        share = 1 if self.again else max(1, self.executor.slots // (self.running + len(self.pending)))
        self.executor.submit(replace(order, wanted=kinds, fp32_wanted=missing, split=share))

    def _finish(self, event: Finished) -> None:
        self.running -= 1
        self.deaths.pop(event.order.cell.id, None)
        if event.fatal:
            raise BadInputError(event.fatal)
        self.store.append(event.order.asked)
        self._release(event.order)
        if event.bad_input and event.bad_input not in self.summary.bad_inputs:
            self.summary.bad_inputs.append(event.bad_input)
        self.ended += 1
        self.listener.matrix(self.ended, self.total)
        self.listener.ended(event.order, self.records.pop(event.order.cell.id, []))

    def _claim(self, order: Order) -> bool:
        folder = self.store.folder / ".claims"
        with disk_errors(self.store.folder):
            folder.mkdir(exist_ok=True)
            lock = FileLock(folder / f"{order.name}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                return False
        self.claims[order.name] = lock
        return True

    def _release(self, order: Order) -> None:
        self.claims.pop(order.name).release()

    def release(self) -> None:
        """Give back every claim."""
        for lock in self.claims.values():
            lock.release()

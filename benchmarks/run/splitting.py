"""Sharing one cell's evaluation among several workers: each takes some batches, and one makes the record of them all.

A cell that is to be split is done in three steps, each an order of its own: its quantized model, if that is still to be
made; the batches, in as many parts as there are workers for; and what is left, with what the parts found. The batches
are those that one worker would read, so the record is the same but for the time that it took.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from vitq.benchmarks.run.executors import Executor
from vitq.benchmarks.run.messages import Died, Evaluated, Event, Finished, Measured, Order, Part, PartDone
from vitq.datasets.registry import DATASETS
from vitq.record import kind_of

IMAGES_A_WORKER = 500
"""An evaluation of fewer is not worth another worker, who has to load the model and the data."""


@dataclass
class _Cell:
    """A cell that is being split: what of it runs, what was found, and how it fares."""

    order: Order
    of: int
    step: str = "model"
    running: int = 0
    found: dict[int, Evaluated] = field(default_factory=dict)
    good: bool = True
    death: str | None = None
    end: Finished | None = None


class Splitting:
    """An executor that shares out long evaluations over another one.

    `parts` is how many workers each evaluation is given to; None leaves it to the order, which knows how many workers
    have nothing else to do, and to how long the evaluation is.
    """

    def __init__(self, inner: Executor, parts: int | None = None) -> None:
        self._inner, self._parts = inner, parts
        self._cells: dict[str, _Cell] = {}
        self._waiting: deque[Order] = deque()
        self._running = 0

    @property
    def slots(self) -> int:
        """As many cells as the executor runs."""
        return self._inner.slots

    @property
    def alone(self) -> int:
        """As the executor has it."""
        return self._inner.alone

    @property
    def attempts(self) -> int:
        """As the executor has it."""
        return self._inner.attempts

    def submit(self, order: Order) -> None:
        """Start an order, or its first step; it waits where parts of others take all the slots."""
        known = self._cells.get(order.cell.id)
        parts = known.of if known else min(self._parts or order.split, _most(order, forced=self._parts is not None))
        if parts < 2 or "accuracy" not in order.wanted:
            self._cells.pop(order.cell.id, None)
            self._send(order)
            return
        cell = self._cells[order.cell.id] = _Cell(order, parts, found=known.found if known else {})
        first = tuple(name for name in order.wanted if name in ("model", "counts"))
        if first or not order.model_path.is_file():
            cell.running = 1
            self._send(replace(order, wanted=first or ("model",), fp32_wanted=False))
        else:
            self._evaluate(cell)

    def events(self, timeout: float) -> Iterator[Event]:
        """What the executor tells, as of the cells that were submitted."""
        for event in self._inner.events(timeout):
            if isinstance(event, (Finished, Died)):
                self._running -= 1
            cell = self._cells.get(event.order.cell.id)
            yield from [event] if cell is None else self._hear(cell, event)
        self._fill()

    def close(self) -> None:
        """Stop all workers at once."""
        self._waiting.clear()
        self._inner.close()

    def _send(self, order: Order) -> None:
        self._waiting.append(order)
        self._fill()

    def _fill(self) -> None:
        while self._waiting and self._running < max(1, self._inner.slots):
            self._running += 1
            self._inner.submit(self._waiting.popleft())

    def _hear(self, cell: _Cell, event: Event) -> Iterator[Event]:
        if isinstance(event, PartDone):
            assert event.order.part is not None
            cell.found[event.order.part.number] = event.found
        elif isinstance(event, Measured):
            bad = event.record.status != "done" and event.record.kind != "counts"
            if cell.good or not bad or cell.step == "rest":  # of parts that fail alike, the first is told
                yield replace(event, order=cell.order)
            cell.good = cell.good and not bad
        elif isinstance(event, (Finished, Died)):
            yield from self._ended(cell, event)
        else:
            yield replace(event, order=cell.order)

    def _ended(self, cell: _Cell, event: Finished | Died) -> Iterator[Event]:
        """A step or a part of one is over: go on once nothing of the step runs, unless something went wrong."""
        cell.running -= 1
        if isinstance(event, Died):
            cell.death = cell.death or event.how
        elif cell.end is None or event.bad_input or event.fatal:
            cell.end = replace(event, order=cell.order)
        if cell.running and not (cell.end and cell.end.fatal):
            return
        if cell.death and cell.good:
            cell.step = "dead"  # kept, since the parts that are done need not be done again
            yield Died(cell.order, cell.death)
        elif cell.step == "rest" or not cell.good or cell.end is None or cell.end.fatal:
            del self._cells[cell.order.cell.id]
            yield cell.end or Finished(cell.order)
        elif cell.step == "model":
            self._evaluate(cell)
        else:
            self._finish(cell)

    def _evaluate(self, cell: _Cell) -> None:
        """Send out the parts that nobody has done."""
        cell.step, cell.end = "parts", None
        left = [number for number in range(cell.of) if number not in cell.found]
        cell.running = len(left)
        for number in left:
            self._send(replace(cell.order, wanted=("accuracy",), part=Part(number, cell.of)))
        if not left:
            self._finish(cell)

    def _finish(self, cell: _Cell) -> None:
        """Send what is left of the cell, with what the parts found in their order."""
        cell.step, cell.end, cell.running = "rest", None, 1
        keys = cell.found[0]
        whole = {key: [each for number in range(cell.of) for each in cell.found[number][key]] for key in keys}
        left = tuple(name for name in cell.order.wanted if kind_of(name) in ("accuracy", "latency"))
        self._send(replace(cell.order, wanted=left, evaluated=whole))


def _most(order: Order, forced: bool) -> int:
    """Into how many parts an evaluation may go: one where no model's file is kept; unless forced, by its length."""
    if not order.keep_model:
        return 1
    if forced:
        return 1_000_000
    images = order.cell.limit or DATASETS.load(order.cell.dataset).full_size or 0
    return max(1, images // IMAGES_A_WORKER)

"""What a worker process does with an order: one measurement after the other, each ending in a record."""

from __future__ import annotations

import errno
import random
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vitq.benchmarks.measure import accuracy, counts, latency, model
from vitq.benchmarks.measure.bench import Bench
from vitq.benchmarks.run.messages import Finished, Link, Order
from vitq.datasets import registry as datasets
from vitq.errors import BadInputError, MethodInputError, UnsupportedError
from vitq.methods.toolkit import devices
from vitq.record import Kind, Name, Record, Status, kind_of
from vitq.subject import Progress
from vitq.tasks import names

MEASUREMENTS: dict[Kind, Callable[[Bench], Iterator[Record]]] = {
    "counts": counts.measure,
    "model": model.measure,
    "accuracy": accuracy.measure,
    "latency": latency.measure,
}
"""What makes each kind of measurement, one or more records."""


def work_on(order: Order, link: Link) -> Finished:
    """Measure what is wanted of a cell; every way it can end is a record, but for a full disk, which ends the run."""
    names.register(order.models)
    datasets.register(order.datasets)
    _prepare_process(order)
    work = _Work(Bench(order, replace(link, phase=_throttled(link.phase))))
    try:
        with _noted(work.bench):
            if order.part is None:
                work.run()
            else:
                work.run_part()
    except _FullDiskError:
        return Finished(order, fatal=f"the disk of {order.folder} is full: free some space and run again")
    finally:
        if not order.keep_model:
            order.model_path.unlink(missing_ok=True)
    return Finished(order, bad_input=work.bad_input)


class _FullDiskError(Exception):
    """No space left: no record can be written either."""


class _Work:
    """The measurements of one cell, one after the other."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.bad_input: str | None = None

    def run(self) -> None:
        """All that is wanted, until one ends without a result that others need."""
        wanted = self.bench.order.wanted
        asking: list[Name] = [name for name in wanted if name in ("model", "counts")]
        asking = asking or list(wanted[:1])
        with self.ends(asking[0]) as asked:
            asked.ok = self.supported(asking)
        if not asked.ok:
            return
        for kind in self.kinds():
            with self.ends(next((name for name in wanted if kind_of(name) == kind), kind)) as made:
                for record in MEASUREMENTS[kind](self.bench):
                    self.bench.link.record(record)
            if not made.ok and kind != "counts":
                return

    def run_part(self) -> None:
        """Evaluate some batches, for another worker to make a record of; a failure is one of the accuracy."""
        with self.ends("accuracy"):
            self.bench.link.part(accuracy.measure_part(self.bench))

    def supported(self, names: Sequence[Name]) -> bool:
        """Whether task and method can do what the cell asks, before anything is loaded; a record each if not."""
        reason = self.bench.task.unsupported() or self.bench.chosen.refused()
        for name in names if reason else ():
            self.bench.link.record(self.bench.record(name, "unsupported", error=reason))
        return reason is None

    def kinds(self) -> list[Kind]:
        """What has to be made, in order: the model too where others need it and no earlier run left it."""
        bench, wanted = self.bench, {kind_of(name) for name in self.bench.order.wanted}
        needs = {"accuracy", "latency", *(["counts"] if bench.counted_on_model else [])}
        if "model" not in wanted and wanted & needs and not bench.has_model():
            wanted.add("model")
        first: tuple[Kind, Kind] = ("model", "counts") if bench.counted_on_model else ("counts", "model")
        order: tuple[Kind, ...] = (*first, "accuracy", "latency")
        return [kind for kind in order if kind in wanted]

    @contextmanager
    def ends(self, name: Name) -> Iterator[_Step]:
        """A step of this measurement; one that fails is recorded, and is not ok."""
        step = _Step()
        try:
            yield step
        except Exception as error:
            step.ok = False
            self.failed(name, error)

    def failed(self, name: Name, error: Exception) -> None:
        """Tell how a measurement ended without a result."""
        if _is_full_disk(error):
            raise _FullDiskError from error
        status, text = _ended(error)
        foreseen = status != "failed"
        if isinstance(error, (BadInputError, MethodInputError)):
            self.bad_input, foreseen = self.bad_input or text, True
        trace = None if foreseen else traceback.format_exc()
        self.bench.link.record(self.bench.record(name, status, error=text, traceback=trace))


@dataclass
class _Step:
    """Whether a step gave what follows it needs."""

    ok: bool = True


@contextmanager
def _noted(bench: Bench) -> Iterator[None]:
    """Within, warnings meant for users reach the record of the measurement that is under way."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        before = warnings.showwarning

        def note(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, UserWarning):
                bench.notes.warnings.append(str(message))
            else:
                before(message, category, *where, **more)

        warnings.showwarning = note
        yield


def _ended(error: Exception) -> tuple[Status, str]:
    line = " ".join(str(error).split())
    if isinstance(error, UnsupportedError):
        return "unsupported", line or "unsupported"
    if isinstance(error, (BadInputError, MethodInputError)):
        return "failed", line
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "oom", line or "out of memory"
    return "failed", f"{type(error).__name__}: {error}"


def _prepare_process(order: Order) -> None:
    torch.set_num_threads(order.threads)
    device = torch.device(order.device)
    devices.use(device)
    devices.make_deterministic()
    devices.reset_peak(device)
    random.seed(order.cell.seed)
    np.random.seed(order.cell.seed % 2**32)
    torch.manual_seed(order.cell.seed)


def _is_full_disk(error: BaseException | None) -> bool:
    """A full disk, said by the system or, in a library's own error, by its words."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _throttled(progress: Progress) -> Progress:
    """Pass on changes of phase at once, and steps at most ten times a second."""
    last: list[Any] = ["", 0.0]

    def throttled(phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if phase != last[0] or done == total or now - last[1] > 0.1:
            last[:] = [phase, now]
            progress(phase, done, total)

    return throttled

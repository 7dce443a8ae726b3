"""One cell from its order to its records, inside a worker process."""

from __future__ import annotations

import errno
import random
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from vitq.benchmarks.measure.accuracy import evaluate, evaluate_fp32
from vitq.benchmarks.measure.bench import Bench, Notes
from vitq.benchmarks.measure.counts import count
from vitq.benchmarks.measure.quantize import Restored, dropped_after, quantize, restore
from vitq.benchmarks.measure.timing import time_forms
from vitq.benchmarks.run.messages import Finished, Order, Send, Tell
from vitq.errors import BadInputError, MethodInputError, UnsupportedError
from vitq.methods.toolkit import devices
from vitq.record import Kind, Status


class _EndError(Exception):
    """A measurement has ended without a result, and its record is written: nothing that needs it can follow."""


def work_on(order: Order, tell: Tell) -> Finished:
    """Measure what is wanted of a cell; every way it can end is a record, but for a full disk, which ends the run."""
    _prepare_process(order)
    work = _Work(Bench(order, Tell(_throttled(tell.phase), tell.record)))
    try:
        with dropped_after(work.bench), _noted(work.bench):
            work.run()
    except _EndError:
        pass
    except _FullDiskError:
        return Finished(order, fatal=f"the disk of {order.folder} is full: free some space and run again")
    return Finished(order, bad_input=work.bad_input)


class _FullDiskError(Exception):
    """No space left: no record can be written either."""


class _Work:
    """The measurements of one cell in their order: counts, the model, FP32 accuracy, accuracy, latency."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.wanted = bench, set(bench.order.wanted)
        self.bad_input: str | None = None

    def run(self) -> None:
        """All that is wanted; raises _EndError when a measurement fails that the others need."""
        of_model = self.bench.card.widths_depend_on_data and "model" in self.bench.order.identities.own
        if "counts" in self.wanted and not of_model:
            with self.ends("counts", needed=False):
                self.bench.tell.record(count(self.bench))
        if not self.wanted & {"model", "accuracy", "latency"} and not (of_model and "counts" in self.wanted):
            return
        quantized = self.model()
        if "counts" in self.wanted and of_model:
            with self.ends("counts", needed=False):
                self.bench.tell.record(count(self.bench, quantized.model))
        self.measure(quantized)

    def measure(self, quantized: Restored) -> None:
        """Accuracy and latency of the model from its file."""
        if "accuracy" in self.wanted:
            with self.ends("accuracy"):
                if self.bench.order.fp32_wanted and self.bench.order.cell.method != "fp32":
                    self.bench.tell.record(evaluate_fp32(self.bench))
                self.bench.tell.record(evaluate(self.bench, quantized.model))
        if "latency" in self.wanted:
            with self.ends("latency"):
                self.bench.tell.record(time_forms(self.bench, quantized.model, quantized.exec))

    def model(self) -> Restored:
        """The quantized model from its file, which is made where it is wanted, missing or damaged."""
        with self.ends("model"):
            found = None if "model" in self.wanted else self.stored()
            if found is None:
                self.bench.tell.record(quantize(self.bench))
                found = restore(self.bench)
                self.bench.notes = Notes()
            return found
        raise _EndError

    def stored(self) -> Restored | None:
        """The model that an earlier run left; None where there is none that can be read."""
        if not self.bench.order.model_path.is_file():
            return None
        try:
            found = restore(self.bench)
        except BadInputError:
            return None
        self.bench.notes = Notes()
        return found

    @contextmanager
    def ends(self, kind: Kind, needed: bool = True) -> Iterator[None]:
        """Record a failure of this measurement; what needs it ends too."""
        try:
            yield
        except Exception as error:
            self.failed(kind, error)
            if needed:
                raise _EndError from error

    def failed(self, kind: Kind, error: Exception) -> None:
        """Tell how a measurement ended without a result."""
        if _is_full_disk(error):
            raise _FullDiskError from error
        status, text = _ended(error)
        if isinstance(error, (BadInputError, MethodInputError)):
            self.bad_input = self.bad_input or text
        elif status == "failed":
            self.bench.notes.details["traceback"] = traceback.format_exc()
        self.bench.tell.record(self.bench.record(kind, status=status, error=text))


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


def _throttled(send: Send) -> Send:
    """Pass on changes of phase at once, and steps at most ten times a second."""
    last: list[Any] = ["", 0.0]

    def throttled(phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if phase != last[0] or done == total or now - last[1] > 0.1:
            last[:] = [phase, now]
            send(phase, done, total)

    return throttled

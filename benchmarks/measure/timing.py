"""Times of a model's execution forms, measured in turn: what else the machine does falls on all of them alike."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitq.record import LatencyRow
from vitq.subject import Batch

Form = Callable[[Batch], Any]
BASELINE = "fp32"
STEADY, MORE_ROUNDS, PATIENCE_SECONDS = 0.05, 12, 2.0
"""Warm-up goes on until no form was more than 5 % faster than in the round before, at most 12 rounds or 2 seconds."""
SETTLE_SECONDS = 0.01
"""Longer than idle threads of GNU's OpenMP, which torch uses, still spin: 300,000 turns of some nanoseconds."""


def time_in_turn(
    forms: Mapping[str, Form],
    example: Batch,
    *,
    batch: int,
    runs: int = 20,
    warmup: int = 3,
    threads: int = 1,
    device: torch.device | str = "cpu",
    more: int = MORE_ROUNDS,
    baseline: str = BASELINE,
) -> list[LatencyRow]:
    """Time every form on `example` of `batch` samples: rounds that warm up, then rounds in which each runs once.

    `forms` maps an `exec` name to what runs it; `baseline`, that of every ratio, must be among them. There are
    `warmup` rounds that do not count, and up to `more` until times are steady; then `runs` rounds, each of which starts
    with another form, so that none always runs after the same one. Milliseconds a batch; rows of one call share a
    session. Torch's threads are set to `threads` and restored; a form of another runtime sets its own. `device` is
    where the forms compute; a GPU's times are those between its own events. ValueError without a baseline, without
    runs, or for an empty batch.
    """
    if baseline not in forms:
        raise ValueError(f"latency needs the form {baseline!r} as baseline, got {', '.join(forms) or 'none'}")
    if runs < 1 or warmup < 0 or threads < 1 or batch < 1:
        raise ValueError("latency needs at least one run, one thread and one example, and a warm-up of 0 or more")
    where = torch.device(device)
    samples: dict[str, list[float]] = {name: [] for name in forms}
    names, session = list(forms), uuid.uuid4().hex[:12]
    with _quiet(threads), torch.inference_mode():
        warm_up(forms, example, where, warmup, more)
        memory = {name: memory_of(forms[name], example, where) for name in names}
        for run in range(runs):
            first = run % len(names)
            for name in names[first:] + names[:first]:
                settle(len(names), where)
                samples[name].append(once(forms[name], example, where))
    return [_row(name, times, batch, threads, where, session, memory[name]) for name, times in samples.items()]


def warm_up(forms: Mapping[str, Form], example: Batch, device: torch.device, warmup: int, more: int) -> int:
    """Run every form in turn `warmup` times, then until times are steady (see `STEADY`); the number of rounds."""
    before: dict[str, float] = {}
    begun = 0.0
    for done in range(warmup + more):
        if done == warmup:
            begun = time.perf_counter()
        took = {name: once(form, example, device) for name, form in forms.items()}
        steady = before and all(before[name] < took[name] * (1 + STEADY) for name in forms)
        before = took
        late = done >= warmup and time.perf_counter() - begun > PATIENCE_SECONDS
        if done + 1 >= warmup and (steady or late):
            return done + 1
    return warmup + more


def settle(forms: int, device: torch.device) -> None:
    """Let the threads of the form before go to sleep: OpenMP's wait for more work in a loop, on cores of the next."""
    if forms > 1 and device.type == "cpu":
        time.sleep(SETTLE_SECONDS)


def once(form: Form, example: Batch, device: torch.device) -> float:
    """Milliseconds of one call: by the device's own events on a GPU, which computes on its own; else by the clock."""
    if device.type == "cuda":
        return _by_events(form, example, device)
    start = time.perf_counter_ns()
    form(example)
    return (time.perf_counter_ns() - start) / 1e6


def _by_events(form: Form, example: Batch, device: torch.device) -> float:
    torch.cuda.synchronize(device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    with torch.cuda.device(device):
        start.record()
        form(example)
        end.record()
    torch.cuda.synchronize(device)
    return float(start.elapsed_time(end))


def memory_of(form: Form, example: Batch, device: torch.device) -> float | None:
    """10^6 bytes that a call takes at its peak above what is there before it; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        form(example)
        return max(0, torch.cuda.max_memory_allocated(device) - before) / 1e6
    before_kb = _resident("VmRSS") if _forget_peak() else None
    if before_kb is None:
        return None
    form(example)
    peak = _resident("VmHWM")
    return None if peak is None else max(0, peak - before_kb) * 1024 / 1e6


def _forget_peak() -> bool:
    """Have Linux measure this process's peak of resident memory anew; whether it could be asked.

    What was freed and is still held for the next allocation is given back first, where the C library can.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


def _resident(what: str) -> int | None:
    """Kilobytes of a line of this process's status, as Linux tells them."""
    with suppress(OSError, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(f"{what}:")), None)
    return None


@contextmanager
def _quiet(threads: int) -> Iterator[None]:
    """Set torch's threads and keep the garbage collector out of the samples; both as before afterwards."""
    before, collecting = torch.get_num_threads(), gc.isenabled()
    gc.collect()
    gc.disable()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()


def _row(
    name: str, times: list[float], batch: int, threads: int, device: torch.device, session: str, memory: float | None
) -> LatencyRow:
    return LatencyRow(
        exec=name,
        batch=batch,
        threads=threads,
        device=str(device),
        median_ms=statistics.median(times),
        p90_ms=float(np.percentile(times, 90)),
        samples_ms=times,
        memory_mb=memory,
        session=session,
    )

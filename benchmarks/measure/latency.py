"""Latency of a model's execution forms, measured in turn so that what else the machine does falls on all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitq.record import LatencyRow

Form = Callable[[Tensor], Any]
BASELINE = "fp32"


def measure(
    forms: Mapping[str, Form],
    example: Tensor,
    *,
    runs: int = 20,
    warmup: int = 3,
    threads: int = 1,
    device: torch.device | str | None = None,
) -> list[LatencyRow]:
    """Time every form on `example` [B, ...]: `warmup` calls each, then `runs` rounds in which each form runs once.

    `forms` maps an `exec` name to what runs it; `fp32`, the baseline of every ratio, must be among them. The round
    starts with another form each time, so that none always runs after the same one. Milliseconds a batch. Torch's
    threads are set to `threads` and restored; a form of another runtime sets its own. `device` is that of `example`
    unless given. ValueError without a baseline, without runs, or for an empty batch.
    """
    if BASELINE not in forms:
        raise ValueError(f"latency needs the form {BASELINE!r} as baseline, got {', '.join(forms) or 'none'}")
    if runs < 1 or warmup < 0 or threads < 1 or len(example) < 1:
        raise ValueError("latency needs at least one run, one thread and one example, and a warm-up of 0 or more")
    device = example.device if device is None else torch.device(device)
    example = example.to(device)
    samples: dict[str, list[float]] = {name: [] for name in forms}
    with _quiet(threads), torch.inference_mode():
        for form in forms.values():
            for _ in range(warmup):
                form(example)
        names = list(forms)
        for run in range(runs):
            first = run % len(names)
            for name in names[first:] + names[:first]:
                samples[name].append(_once(forms[name], example, device))
    return [_row(name, times, len(example), threads, device) for name, times in samples.items()]


def _once(form: Form, example: Tensor, device: torch.device) -> float:
    """Milliseconds of one call; a device that computes on its own is waited for before and after."""
    _wait(device)
    start = time.perf_counter_ns()
    form(example)
    _wait(device)
    return (time.perf_counter_ns() - start) / 1e6


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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


def _row(name: str, times: list[float], batch: int, threads: int, device: torch.device) -> LatencyRow:
    return LatencyRow(
        exec=name,
        batch=batch,
        threads=threads,
        device=str(device),
        median_ms=statistics.median(times),
        p90_ms=float(np.percentile(times, 90)),
        samples_ms=times,
    )

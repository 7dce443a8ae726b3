"""Latency of FP32 and of the quantized model's form, in turn so that what else the machine does falls on both alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from vitq.benchmarks.measure.bench import Bench
from vitq.record import LatencyRow, Record
from vitq.subject import Batch

Form = Callable[[Batch], Any]
BASELINE = "fp32"


def measure(bench: Bench) -> Iterator[Record]:
    """The record of FP32's latency and, where it is another, the quantized model's form."""
    spec, quantized = bench.order.latency, bench.quantized
    assert spec is not None
    forms = {BASELINE: bench.forward(bench.loaded.model)}
    if quantized.exec != BASELINE:
        forms[quantized.exec] = bench.forward(quantized.model)
    with bench.phase("latency"):
        example = bench.task.example(bench.loaded.preprocessing, spec.batch, bench.device, bench.order.cell.seed)
        rows = time_in_turn(
            forms, example, batch=spec.batch, runs=spec.runs, warmup=spec.warmup,
            threads=bench.order.latency_threads, device=bench.device,
        )  # fmt: skip
    yield bench.record("latency", latency=rows)


def time_in_turn(
    forms: Mapping[str, Form],
    example: Batch,
    *,
    batch: int,
    runs: int = 20,
    warmup: int = 3,
    threads: int = 1,
    device: torch.device | str = "cpu",
) -> list[LatencyRow]:
    """Time every form on `example` of `batch` samples: `warmup` calls each, then rounds in which each runs once.

    `forms` maps an `exec` name to what runs it; `fp32`, the baseline of every ratio, must be among them. There are
    `runs` rounds, and each starts with another form, so that none always runs after the same one. Milliseconds a batch.
    Torch's threads are set to `threads` and restored; a form of another runtime sets its own. `device` is where the
    forms compute. ValueError without a baseline, without runs, or for an empty batch.
    """
    if BASELINE not in forms:
        raise ValueError(f"latency needs the form {BASELINE!r} as baseline, got {', '.join(forms) or 'none'}")
    if runs < 1 or warmup < 0 or threads < 1 or batch < 1:
        raise ValueError("latency needs at least one run, one thread and one example, and a warm-up of 0 or more")
    where = torch.device(device)
    samples: dict[str, list[float]] = {name: [] for name in forms}
    with _quiet(threads), torch.inference_mode():
        for form in forms.values():
            for _ in range(warmup):
                form(example)
        names = list(forms)
        for run in range(runs):
            first = run % len(names)
            for name in names[first:] + names[:first]:
                samples[name].append(_once(forms[name], example, where))
    return [_row(name, times, batch, threads, where) for name, times in samples.items()]


def _once(form: Form, example: Batch, device: torch.device) -> float:
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

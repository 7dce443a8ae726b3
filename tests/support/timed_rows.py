"""Timed cells and peaks made by hand, for tests of latency's tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitq.peaks import Peaks, Rate
from vitq.record import LatencyAround, LatencyRow

MACHINE = "box"


def timed(exec: str, samples: Sequence[float], **changes: Any) -> LatencyRow:
    """A row of session `a`, batch 8, two threads."""
    middle = sorted(samples)[len(samples) // 2]
    fields: dict[str, Any] = {
        "exec": exec, "batch": 8, "threads": 2, "device": "cpu", "median_ms": middle, "p90_ms": max(samples),
        "samples_ms": list(samples), "session": "a", "runtime": exec.partition(":")[2] or "torch", "version": "1.0",
    }  # fmt: skip
    return LatencyRow(**{**fields, **changes})


def session(kernel: str, ms: float, **changes: Any) -> list[LatencyRow]:
    """Eager FP32, a faster FP32, fake quantization and a kernel of so many milliseconds, timed in turn."""
    kernel_row = timed(kernel, [ms * 0.9, ms, ms * 1.2], reference="fake-quant", difference=2e-5, agreement=98.5,
                       operators={"Linear": {"int8": 48, "fp32": 2}}, **changes)  # fmt: skip
    return [
        timed("fp32", [90.0, 100.0, 140.0], reference="fp32", **changes),
        timed("fp32:openvino", [45.0, 50.0, 70.0], reference="fp32", difference=1e-6, **changes),
        timed("fake-quant", [180.0, 200.0, 280.0], reference="fake-quant", **changes),
        kernel_row,
    ]


AROUND = {"a": LatencyAround(other_cores=0.75, disturbed=True)}


def rate(what: Any, median: float, by: str = "a library") -> Rate:
    """A rate with quartiles 10 % off."""
    return Rate(what=what, by=by, size="1x2x3", median=median, lower=0.9 * median, upper=1.1 * median, rounds=9)


def peaks(**changes: Any) -> Peaks:
    """Peaks of `box` with two threads, in the ratios of a CPU with AVX-512."""
    rates = [
        rate("fp32", 120e9), rate("fp32", 140e9, "another"), rate("bf16", 250e9), rate("int8", 540e9),
        rate("binary", 2.5e12), rate("copy", 30e9), rate("read", 25e9),
    ]  # fmt: skip
    fields: dict[str, Any] = {"machine": MACHINE, "cpu": "a CPU", "device": "cpu", "threads": 2, "rates": rates}
    return Peaks(**{**fields, **changes})

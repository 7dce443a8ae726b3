"""Latency of a cell's execution forms beside the FP32 model's, in turn."""

from __future__ import annotations

import torch
from torch import nn

from vitq.benchmarks.measure.bench import Bench
from vitq.benchmarks.measure.latency import measure
from vitq.record import Record


def time_forms(bench: Bench, quantized: nn.Module, exec_form: str) -> Record:
    """The record of FP32's latency and, where it is another, the quantized model's form."""
    spec = bench.order.latency
    assert spec is not None
    forms: dict[str, nn.Module] = {"fp32": bench.loaded.model}
    if exec_form != "fp32":
        forms[exec_form] = quantized
    with bench.phase("latency"):
        generator = torch.Generator().manual_seed(bench.order.cell.seed)
        images = torch.randn((spec.batch, *bench.loaded.size), generator=generator).to(bench.device)
        rows = measure(
            forms, images, runs=spec.runs, warmup=spec.warmup, threads=bench.order.latency_threads, device=bench.device
        )
    return bench.record("latency", status="done", latency=rows)

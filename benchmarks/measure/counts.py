"""Size and operations of a cell, from the architecture on the meta device: no weights, no data, nothing computed.

Where a method's widths depend on data, the quantized model itself is counted.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator

import torch
from torch import nn

from vitq.benchmarks.measure.accounting import account
from vitq.benchmarks.measure.bench import Bench
from vitq.record import Record
from vitq.subject import part_of, put_part


def measure(bench: Bench) -> Iterator[Record]:
    """The counts' record, of the task's forward pass on one sample."""
    made = bench.quantized.model if bench.counted_on_model else None
    with bench.phase("account"), torch.device("meta"):
        model = bench.task.build_model(bench.order.cell.model).eval()
        quantized = _prepared(bench, model) if made is None else made
        sample = bench.task.example(bench.entry.preprocessing, 1, "meta")
        found = account(model, quantized, sample, bench.bits, bench.task.forward)
    rows = json.dumps([row._asdict() for row in found.layers]).encode()
    bench.keep("layers", bench.order.artifacts / "layers.json", rows)
    yield bench.record("counts", size=found.size, operations=found.operations)


def _prepared(bench: Bench, model: nn.Module) -> nn.Module:
    """A copy of the architecture with the method's layers in the part that is quantized."""
    copied, scope = copy.deepcopy(model), bench.order.cell.scope
    return put_part(copied, scope, bench.method.prepare(part_of(copied, scope), bench.bits, bench.options))

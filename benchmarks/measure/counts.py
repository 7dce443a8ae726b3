"""Size and operations of a cell, from the architecture on the meta device: no weights, no data, nothing computed.

Where a method's widths depend on data, the quantized model itself is counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch

from vitq.benchmarks.measure.bench import Bench
from vitq.record import Record


def measure(bench: Bench) -> Iterator[Record]:
    """The counts' record, of the task's forward pass on one sample."""
    made = bench.quantized.model if bench.counted_on_model else None
    with bench.phase("account"):
        with torch.device("meta"):
            model = bench.task.build_model(bench.order.cell.model).eval()
        found = bench.chosen.account(bench.task, model, bench.entry.preprocessing, made)
    rows = json.dumps([row._asdict() for row in found.layers]).encode()
    bench.keep("layers", bench.order.artifacts / "layers.json", rows)
    yield bench.record("counts", size=found.size, operations=found.operations)

"""Size and operations of a cell, from the architecture on the meta device: no weights, no data, nothing computed.

Where a method's widths depend on data, the quantized model itself is counted.
"""

from __future__ import annotations

import copy
import json

import torch
from torch import nn

from vitq.benchmarks.measure.accounting import Account, account
from vitq.benchmarks.measure.bench import Bench
from vitq.record import Record
from vitq.tasks.names import model_entry


def count(bench: Bench, quantized: nn.Module | None = None) -> Record:
    """The counts' record; `quantized` is needed, and used, only where the card says that widths depend on data."""
    with bench.phase("account"), torch.device("meta"):
        model = bench.task.build_model(bench.order.cell.model).eval()
        if quantized is None or not bench.card.widths_depend_on_data:
            quantized = bench.method.prepare(copy.deepcopy(model), bench.bits, bench.options)
        found = counted(bench, model, quantized)
    rows = json.dumps([row._asdict() for row in found.layers]).encode()
    bench.keep("layers", bench.order.artifacts / "layers.json", rows)
    return bench.record("counts", status="done", size=found.size, operations=found.operations)


def counted(bench: Bench, model: nn.Module, quantized: nn.Module) -> Account:
    """Size and operations of a quantized model against the FP architecture it came from."""
    return account(model, quantized, model_entry(bench.order.cell.model).preprocessing.size, bench.bits)

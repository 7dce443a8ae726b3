"""Accuracy of the quantized model, and of FP32 beside it, with every sample's outcome and a digest of its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from vitq import outcomes
from vitq.benchmarks.measure.bench import Bench, write_atomically
from vitq.benchmarks.plan.identity import FP32
from vitq.record import Identity, Metric, Record, key_of
from vitq.subject import Progress
from vitq.tasks.base import Data, Task


class Accuracy(NamedTuple):
    """Metrics by name, every sample's outcome by metric, and a digest of the outputs on the first batch."""

    metrics: dict[str, Metric]
    outcomes: dict[str, outcomes.Outcome]
    output_sha256: str


def measure(bench: Bench) -> Iterator[Record]:
    """FP32's record, where it is missing, and the quantized model's on the same samples."""
    quantized, fp32 = bench.quantized.model, bench.order.identities.fp32
    if bench.order.fp32_wanted and bench.order.cell.method != "fp32" and fp32 is not None:
        record = _evaluated(bench, bench.loaded.model, "fp32", fp32)
        yield record.model_copy(update={"cell": bench.order.cell.asked(**FP32), "fidelity": "baseline"})
    yield _evaluated(bench, quantized, "evaluate", bench.order.identities.own["accuracy"])


def _evaluated(bench: Bench, model: nn.Module, phase: str, identity: Identity) -> Record:
    key = key_of(identity)
    with bench.phase(phase):
        found = measured(bench.task, model, bench.data, bench.link.phase)
    if phase == "evaluate" and bench.order.cell.method != "fp32":
        for name, png in bench.task.pictures(bench.loaded.model, model, bench.data).items():
            bench.keep(name, bench.order.artifacts / f"{name.replace(' ', '-')}-{key[:16]}.png", png)
    if bench.data.subset:
        # named by the accuracy: a model is evaluated on several subsets, and each record keeps its own list
        bench.keep("subset", bench.order.artifacts / f"subset-{key[:16]}.txt", bench.data.subset.encode())
    kept = _keep_outcomes(bench, found.outcomes, key)
    return bench.record(
        "accuracy", identity=identity, metrics=found.metrics, outcomes=kept, output_sha256=found.output_sha256
    )


def _keep_outcomes(bench: Bench, found: Mapping[str, outcomes.Outcome], key: str) -> str | None:
    if not found:
        return None
    path = bench.order.folder / outcomes.FOLDER / f"{key[:16]}.npz"
    write_atomically(path, outcomes.packed(found, outcomes.samples_sha256(bench.data.names)))
    return bench.relative(path)


def measured(task: Task, model: nn.Module, data: Data, progress: Progress) -> Accuracy:
    """The task's metrics of a model on the validation data, and what they are made of."""
    found = task.evaluate(model, data, progress)
    metrics = {name: Metric(value=m.value, n=m.n, stderr=m.stderr) for name, m in found.items()}
    each = {name: m.outcomes for name, m in found.items() if m.outcomes is not None}
    kept = {name: outcomes.Right(o) if isinstance(o, np.ndarray) else o for name, o in each.items()}
    return Accuracy(metrics, kept, _digest(task, model, data))


@torch.inference_mode()
def _digest(task: Task, model: nn.Module, data: Data) -> str:
    """Of the outputs on the first validation batch: two runs that agree in it agree bit for bit there."""
    return task.digest(task.forward(model, next(iter(data.validation()))))

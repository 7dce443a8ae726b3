"""Accuracy of the quantized model, and of FP32 beside it, with every sample's outcome and a digest of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from vitq import outcomes
from vitq.benchmarks.measure.bench import Bench
from vitq.benchmarks.plan.identity import FP32
from vitq.benchmarks.run.messages import Evaluated
from vitq.benchmarks.run.shipping import write_whole
from vitq.record import Identity, Metric, Record, key_of
from vitq.subject import Batch, Progress
from vitq.tasks.base import Data, Task


class Accuracy(NamedTuple):
    """Metrics by name, every sample's outcome by metric, and a digest of the outputs on the first batch."""

    metrics: dict[str, Metric]
    outcomes: dict[str, outcomes.Outcome]
    output_sha256: str


def measure(bench: Bench) -> Iterator[Record]:
    """FP32's record, where it is missing, and the quantized model's on the same samples."""
    order = bench.order
    for phase, (model, identity) in _asked(bench).items():
        record = _evaluated(bench, model, phase, identity)
        if phase == "fp32":
            record = record.model_copy(update={"cell": order.cell.asked(**FP32), "fidelity": "baseline"})
        yield record


def measure_part(bench: Bench) -> Evaluated:
    """What the models say of the batches of the order's part alone, by the key of the accuracy that it is of."""
    batches, total = _batches_of_part(bench)
    found = {}
    for phase, (model, identity) in _asked(bench).items():
        with bench.phase(phase):
            found[key_of(identity)] = bench.task.judge_all(model, batches(), bench.link.phase, total)
    return found


def _batches_of_part(bench: Bench) -> tuple[Callable[[], Iterable[Batch]], int]:
    """The batches of the order's part, and how many samples they hold.

    One part has all of them where the data set cannot read some of its batches alone.
    """
    part, data = bench.order.part, bench.data
    assert part is not None
    count = -(-data.n_validation // data.batch) if data.batch else 1
    first, end = (number * count // part.of for number in (part.number, part.number + 1))
    if first == end:
        return tuple, 0
    between = data.between
    if between is None or not data.batch:
        return data.validation, data.n_validation
    return lambda: between(first, end), min(end * data.batch, data.n_validation) - first * data.batch


def _asked(bench: Bench) -> dict[str, tuple[nn.Module, Identity]]:
    """The models to evaluate, by phase, each with the identity of its accuracy."""
    quantized, fp32 = bench.quantized.model, bench.order.identities.fp32
    asked = {"evaluate": (quantized, bench.order.identities.own["accuracy"])}
    if bench.order.fp32_wanted and bench.order.cell.method != "fp32" and fp32 is not None:
        return {"fp32": (bench.loaded.model, fp32), **asked}
    return asked


def _evaluated(bench: Bench, model: nn.Module, phase: str, identity: Identity) -> Record:
    key = key_of(identity)
    with bench.phase(phase):
        judged = bench.order.evaluated.get(key)  # workers may have shared the batches
        found = measured(bench.task, model, bench.data, bench.link.phase, judged)
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
    write_whole(path, outcomes.packed(found, outcomes.samples_sha256(bench.data.names)))
    return bench.relative(path)


def measured(
    task: Task, model: nn.Module, data: Data, progress: Progress, judged: Sequence[Any] | None = None
) -> Accuracy:
    """The task's metrics of a model on the validation data, and what they are made of.

    `judged` is what `Task.judge` said of every batch, where that is known already.
    """
    found = task.evaluate(model, data, progress) if judged is None else task.metrics(data, judged)
    metrics = {name: Metric(value=m.value, n=m.n, stderr=m.stderr) for name, m in found.items()}
    each = {name: m.outcomes for name, m in found.items() if m.outcomes is not None}
    kept = {name: outcomes.Right(o) if isinstance(o, np.ndarray) else o for name, o in each.items()}
    return Accuracy(metrics, kept, _digest(task, model, data))


@torch.inference_mode()
def _digest(task: Task, model: nn.Module, data: Data) -> str:
    """Of the outputs on the first validation batch: two runs that agree in it agree bit for bit there."""
    return task.digest(task.forward(model, next(iter(data.validation()))))

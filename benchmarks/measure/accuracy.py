"""Accuracy of the quantized model, and of FP32 beside it, with every sample's outcome and a digest of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import nn

from vitq import outcomes
from vitq.benchmarks.measure.bench import Bench
from vitq.benchmarks.plan.identity import FP32
from vitq.benchmarks.run.messages import Evaluated
from vitq.benchmarks.run.shipping import write_whole
from vitq.record import Identity, Metric, Record, key_of
from vitq.subject import Batch
from vitq.tasks.base import Measured


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
        judged = bench.order.evaluated.get(key)
        if judged is None:
            measured = bench.task.evaluate(model, bench.data, bench.link.phase)
        else:  # workers have shared the batches
            measured = bench.task.metrics(bench.data, judged)
        digest = _digest(bench, model)
    if phase == "evaluate" and bench.order.cell.method != "fp32":
        for name, png in bench.task.pictures(bench.loaded.model, model, bench.data).items():
            bench.keep(name, bench.order.artifacts / f"{name.replace(' ', '-')}-{key[:16]}.png", png)
    if bench.data.subset:
        # named by the accuracy: a model is evaluated on several subsets, and each record keeps its own list
        bench.keep("subset", bench.order.artifacts / f"subset-{key[:16]}.txt", bench.data.subset.encode())
    metrics = {name: Metric(value=m.value, n=m.n, stderr=m.stderr) for name, m in measured.items()}
    kept = _keep_outcomes(bench, measured, key)
    return bench.record("accuracy", identity=identity, metrics=metrics, outcomes=kept, output_sha256=digest)


def _keep_outcomes(bench: Bench, measured: Mapping[str, Measured], key: str) -> str | None:
    found = {name: m.outcomes for name, m in measured.items() if m.outcomes is not None}
    if not found:
        return None
    path = bench.order.folder / outcomes.FOLDER / f"{key[:16]}.npz"
    write_whole(path, outcomes.packed(found, outcomes.samples_sha256(bench.data.names)))
    return bench.relative(path)


@torch.inference_mode()
def _digest(bench: Bench, model: nn.Module) -> str:
    """Of the outputs on the first validation batch: two runs that agree in it agree bit for bit there."""
    return bench.task.digest(bench.task.forward(model, next(iter(bench.data.validation()))))

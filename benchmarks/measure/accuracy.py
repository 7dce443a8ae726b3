"""Accuracy of a model on the cell's validation data, with every sample's outcome and a digest of its outputs."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from vitq import outcomes
from vitq.benchmarks.measure.bench import Bench, write_atomically
from vitq.benchmarks.plan.identity import FP32
from vitq.record import Metric, Record, key_of
from vitq.tasks.base import Measured


def evaluate(bench: Bench, quantized: nn.Module) -> Record:
    """The record of the quantized model's accuracy."""
    return _evaluated(bench, quantized, "evaluate", key_of(bench.order.identities.own["accuracy"]))


def evaluate_fp32(bench: Bench) -> Record:
    """The record of the FP32 model's accuracy on the same samples, under the identity it has for every cell."""
    identity = bench.order.identities.fp32
    assert identity is not None
    record = _evaluated(bench, bench.loaded.model, "fp32", key_of(identity))
    ours = bench.order.cell
    name = ours.id.replace(ours.id.split("/")[0], "fp32", 1).replace(f"/{ours.bits}/seed{ours.seed}", "/FP32/seed0")
    cell = ours.model_copy(update={**FP32, "id": name})
    return record.model_copy(
        update={"identity": identity, "key": key_of(identity), "cell": cell, "fidelity": "baseline"}
    )


def _evaluated(bench: Bench, model: nn.Module, phase: str, key: str) -> Record:
    with bench.phase(phase):
        measured = bench.task.evaluate(model, bench.data, bench.tell.phase)
        digest = _output_sha256(bench, model)
    if bench.data.subset:
        # named by the accuracy: a model is evaluated on several subsets, and each record keeps its own list
        bench.keep("subset", bench.order.artifacts / f"subset-{key[:16]}.txt", bench.data.subset.encode())
    metrics = {name: Metric(value=m.value, n=m.n, stderr=m.stderr) for name, m in measured.items()}
    return bench.record(
        "accuracy", status="done", metrics=metrics, outcomes=_keep_outcomes(bench, measured, key), output_sha256=digest
    )


def _keep_outcomes(bench: Bench, measured: dict[str, Measured], key: str) -> str | None:
    right = {name: m.outcomes for name, m in measured.items() if m.outcomes is not None}
    if not right:
        return None
    path = bench.order.folder / outcomes.FOLDER / f"{key[:16]}.npz"
    write_atomically(path, outcomes.packed(right, outcomes.samples_sha256(bench.data.names)))
    return bench.relative(path)


@torch.inference_mode()
def _output_sha256(bench: Bench, model: nn.Module) -> str:
    """sha256 of the outputs on the first validation batch: two runs that agree in it agree bit for bit there."""
    output = bench.task.forward(model, next(iter(bench.data.validation())))
    return hashlib.sha256(output.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()

"""Latency of a foreign model: alone, or in turn with eager torch in FP32 of the architecture that it is like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from vitq.benchmarks.foreign.model import ForeignModel
from vitq.benchmarks.measure.around import watched
from vitq.benchmarks.measure.timing import BASELINE, time_in_turn
from vitq.benchmarks.plan.suite import Latency
from vitq.errors import BadInputError
from vitq.record import LatencyAround, LatencyRow


def timed(
    model: ForeignModel, size: tuple[int, int, int], like: str | None, spec: Latency, threads: int
) -> tuple[list[LatencyRow], dict[str, LatencyAround]]:
    """Rows of every batch size, and what the machine did meanwhile.

    FP32 has random weights: its time does not depend on them. BadInputError for a batch that the file is not fixed to.
    """
    facts = model.facts
    forms: dict[str, Callable[[Any], Any]] = {facts.exec: model}
    if like is not None and facts.exec != BASELINE:
        forms = {BASELINE: _fp32(like), **forms}
    rows: list[LatencyRow] = []
    around: dict[str, LatencyAround] = {}
    for batch in spec.batches:
        if facts.batch is not None and batch != facts.batch:
            raise BadInputError(f"{facts.path.name} is fixed to batches of {facts.batch}: time it with these")
        example = torch.randn(batch, *size, generator=torch.Generator().manual_seed(0))
        with watched(threads) as session:
            found = time_in_turn(
                forms, example, batch=batch, runs=spec.runs, warmup=spec.warmup, threads=threads,
                baseline=BASELINE if BASELINE in forms else facts.exec,
            )  # fmt: skip
        around[found[0].session] = session.found
        rows += [_described(row, model) if row.exec == facts.exec else row for row in found]
    return rows, around


def _described(row: LatencyRow, model: ForeignModel) -> LatencyRow:
    facts = model.facts
    operators = {kind: dict(widths) for kind, widths in facts.operators.items()}
    told = {"runtime": facts.runtime, "version": facts.version, "reference": row.exec, "operators": operators}
    return row.model_copy(update=told)


def _fp32(like: str) -> Callable[[Any], Any]:
    from vitq.tasks.registry import load

    model = load("classification").build_model(like)
    return lambda images: model(images)

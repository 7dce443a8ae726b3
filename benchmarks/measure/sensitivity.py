"""What each component of a model costs when it is quantized: measured by evaluating it, and estimated by PMQ.

Components are quantized on PMQ's base quantizer: uniform grids with clipping searched for the least squared error,
weights per channel. Measured is the task's first metric with one component quantized alone against FP32, or with every
component quantized against all but this one; both sides see the same samples, and the error is that of their paired
difference. Estimated is PMQ's sensitivity, the expected squared change of the loss from one backward pass over the
first calibration batch (`methods/pmq/directional.py`), summed over the operands and layers of a component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from vitq.benchmarks.measure.accuracy import Accuracy, measured
from vitq.errors import BadInputError
from vitq.methods.architectures.roles import roles_of
from vitq.methods.bits import Bits
from vitq.methods.pmq.components import Component, apply, build, components
from vitq.methods.pmq.options import Options
from vitq.methods.pmq.search import Search, calibrate, search
from vitq.methods.toolkit.modules import set_mode
from vitq.metrics import main_metrics
from vitq.paired import Paired, paired
from vitq.subject import Progress, Subject
from vitq.tasks.base import Data, Task

By = Literal["block", "layer"]
Mode = Literal["alone", "leave-one-out"]
_KEPT_BYTES = 1 << 29
"""Batches are kept in memory between evaluations up to so many bytes of images; beyond, they are read each time."""


@dataclass(frozen=True)
class Cost:
    """One component: its path, how many layers and products are in it, what it holds and multiplies, what it costs.

    `lost` is what quantizing it takes from the metric, in points, on `n` samples, with the paired error in `change`
    (whose difference is after quantizing less before). `estimated` is PMQ's sensitivity of it.
    """

    component: str
    layers: int
    params: int
    macs: int
    change: Paired
    estimated: float

    @property
    def lost(self) -> float:
        """What quantizing it takes from the metric, in points; negative where the metric rises."""
        return 0.0 - self.change.difference  # which has no -0.0


@dataclass(frozen=True)
class Costs:
    """Every component's cost, the metric they are of, and the model's metric in FP32 and with all quantized."""

    metric: str
    fp32: Accuracy
    quantized: Accuracy
    rows: tuple[Cost, ...]


@dataclass(frozen=True)
class _Group:
    """Components of the search that are switched together."""

    name: str
    parts: list[Component]

    def switch(self, bits: Bits | None) -> None:
        """Quantize these at the widths, or leave them in FP32."""
        if bits is not None:
            apply(self.parts, {part.name: (bits.w, bits.a) for part in self.parts})
            return
        for part in self.parts:
            set_mode(part.module, "off")


def costs(task: Task, subject: Subject, data: Data, bits: Bits, by: By, mode: Mode, progress: Progress) -> Costs:
    """The cost of every component of the subject's part, measured on the validation data.

    BadInputError for widths that the base quantizer does not have; UnsupportedError where no attention is served.
    """
    if not all(2 <= width <= 8 for width in (bits.w, bits.a)):
        raise BadInputError(f"bits is {bits}: sensitivity is measured at widths of 2 to 8 bits")
    part = subject.part
    blocks = [block.path for block in roles_of(part).blocks]
    run = Search(subject, bits, _options(bits), build(part, bits), [])
    subject.put(part)
    run.components = components(part)
    calibrate(run)
    estimated = search(run)["pareto"]
    groups = _groups(run.components, blocks, by)
    base, whole, each = _evaluations(task, subject.model, _kept(data), groups, bits, mode, progress)
    metric = main_metrics(task.name)[0]
    before_after = {name: (base, found) if mode == "alone" else (found, whole) for name, found in each.items()}
    rows = tuple(_cost(group, *before_after[group.name], metric, estimated, bits) for group in groups)
    return Costs(metric, base, whole, rows)


def _options(bits: Bits) -> Options:
    """PMQ's search at these widths alone."""
    return Options(widths=tuple(sorted({bits.w, bits.a})))


def _groups(parts: Sequence[Component], blocks: Sequence[str], by: By) -> list[_Group]:
    found: dict[str, list[Component]] = {}
    for part in parts:
        block = next((path for path in blocks if part.name.startswith(f"{path}.")), part.name)
        found.setdefault(block if by == "block" else part.name, []).append(part)
    return [_Group(name, members) for name, members in found.items()]


def _evaluations(
    task: Task, model: nn.Module, data: Data, groups: Sequence[_Group], bits: Bits, mode: Mode, progress: Progress
) -> tuple[Accuracy, Accuracy, dict[str, Accuracy]]:
    """FP32, all quantized, and each component by itself: quantized alone, or alone left in FP32."""
    done = 0

    def evaluated() -> Accuracy:
        nonlocal done
        done += 1
        progress("sensitivity", done, len(groups) + 2)
        return measured(task, model, data, lambda *_: None)

    base = evaluated()
    for group in groups:
        group.switch(bits)
    whole, each = evaluated(), {}
    for group in groups if mode == "alone" else ():
        group.switch(None)
    for group in groups:
        group.switch(bits if mode == "alone" else None)
        each[group.name] = evaluated()
        group.switch(None if mode == "alone" else bits)
    return base, whole, each


def _cost(group: _Group, before: Accuracy, after: Accuracy, metric: str, estimated: Any, bits: Bits) -> Cost:
    change = paired(before.outcomes[metric], after.outcomes[metric], metric)
    if isinstance(change, str):
        raise BadInputError(f"what {group.name} costs cannot be told: {change}")
    omega = [
        estimated[part.name]["activation"][bits.a] + estimated[part.name].get("weight", {}).get(bits.w, 0.0)
        for part in group.parts
    ]
    return Cost(
        group.name, len(group.parts), sum(part.weights for part in group.parts), sum(part.macs for part in group.parts),
        change, float(sum(omega)),
    )  # fmt: skip


def _kept(data: Data) -> Data:
    """The data with its validation batches in memory, where they are tensors and small enough."""
    kept: list[Any] = []
    held = 0
    for batch in data.validation():
        tensors = [each for each in batch if isinstance(each, torch.Tensor)] if isinstance(batch, tuple) else []
        held += sum(each.numel() * each.element_size() for each in tensors)
        if not tensors or held > _KEPT_BYTES:
            return data
        kept.append(batch)
    return replace(data, validation=lambda: iter(kept))

"""PMQ's pictures: sensitivity of every component, the frontier, chosen bits by layer, allocations side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitq.details.pmq import Component, Details, Operand
from vitq.reports.pictures import Picture
from vitq.rows import Row

OPERANDS: tuple[Operand, Operand] = ("weight", "activation")
ALLOCATIONS = ("pareto", "leave_one_out", "uniform", "random")


def draw(records: Sequence[Row], results: Path, out: Path) -> list[Picture]:  # noqa: ARG001
    """Draw every PMQ record that searched, and one comparison a (model, dataset, bits, cost)."""
    pictures: list[Picture] = []
    said = [record for record in records if isinstance(record.details, Details)]
    for record in said:
        if _details(record).sensitivity_by == "pareto" and _allocation(record) == "pareto":
            pictures += [_sensitivity(record, out), _frontier(record, out), _bits(record, out)]
    for number, same in enumerate(_groups(said)):
        if len({_allocation(r) for r in same}) > 1:
            pictures.append(_comparison(same, number, out))
    return pictures


def _details(record: Row) -> Details:
    assert isinstance(record.details, Details)
    return record.details


def _allocation(record: Row) -> str:
    return _details(record).options.allocation


def _stem(record: Row, what: str) -> str:
    return f"pmq_plots_{what}_" + record.cell.id.replace("/", "_").replace(":", "_")


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)
    return path


def short(name: str) -> str:
    """`blocks.3.attn.qkv` as `3 qkv`, `layers.1.blocks.0.mlp.fc1` as `1.0 fc1`."""
    numbers = [part for part in name.split(".") if part.isdigit()]
    words = [part for part in name.split(".") if not part.isdigit()]
    leaf = words[-1] if numbers or len(words) == 1 else ".".join(words)
    return f"{'.'.join(numbers)} {leaf}".strip()


def _wide(count: int, rows: int) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(rows, 1, figsize=(max(7.0, 0.19 * count), 3.0 * rows), sharex=True, squeeze=False)
    return figure, list(axes[:, 0])


def _name_components(axis: Axes, components: Sequence[Component]) -> None:
    axis.set_xticks(range(len(components)), [short(c.name) for c in components], rotation=90, fontsize=7)
    axis.set_xlim(-0.7, len(components) - 0.3)


def _sensitivity(record: Row, out: Path) -> Picture:
    components = _details(record).components
    figure, axes = _wide(len(components), 2)
    for axis, operand in zip(axes, OPERANDS, strict=True):
        widths = sorted({b for c in components for b in c.sensitivity.get(operand, {})})
        for shade, bits in enumerate(widths):
            points = [(i, c.sensitivity.get(operand, {}).get(bits)) for i, c in enumerate(components)]
            shown = [(i, v) for i, v in points if v is not None and v > 0]
            axis.plot(*zip(*shown, strict=True), "o", ms=4, label=f"{bits} bit", color=_shade(shade, len(widths)))
        axis.set_yscale("log")
        axis.set_ylabel(f"sensitivity of the {operand}s")
        axis.grid(alpha=0.3)
        axis.legend(ncols=len(widths), fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    _name_components(axes[-1], components)
    caption = (
        f"Estimated change of the loss when one component is quantized, from one backward pass "
        f"({_details(record).options.perturbation}); {record.cell.id}."
    )
    return Picture(
        _save(figure, out / f"{_stem(record, 'sensitivity')}.png"), "PMQ: sensitivity of every component", caption
    )


def _shade(index: int, count: int) -> Any:
    return matplotlib.colormaps["viridis"](0.9 * index / max(1, count - 1))


UNITS = {
    "weights": ("weight size", "MB", 8e6),
    "activations": ("activation bits x MACs", "G", 1e9),
    "bitops": ("BitOPs", "G", 1e9),
}


def _frontier(record: Row, out: Path) -> Picture:
    problems = [p for p in _details(record).problems if p.frontier]
    figure, axes = plt.subplots(1, len(problems), figsize=(5.4 * len(problems), 4.0), squeeze=False)
    for axis, problem in zip(axes[0], problems, strict=True):
        title, unit, scale = UNITS[problem.kind]
        costs, values = zip(*problem.frontier, strict=True)
        axis.plot([c / scale for c in costs], values, "-", lw=1.5, label="Pareto frontier")
        axis.plot(
            [c / scale for _, c, _ in problem.uniform],
            [v for *_, v in problem.uniform],
            "s",
            color="tab:orange",
            label="uniform",
        )
        for bits, cost, value in problem.uniform:
            axis.annotate(f"{bits} bit", (cost / scale, value), (5, 5), textcoords="offset points", fontsize=8)
        if problem.chosen:
            axis.plot(problem.chosen[0] / scale, problem.chosen[1], "*", ms=13, color="tab:red", label="chosen")
        axis.axvline(problem.budget / scale, color="grey", ls=":", lw=1, label="budget")
        axis.set_yscale("log")
        axis.set_xlabel(f"{title} ({unit})")
        axis.set_ylabel("summed sensitivity")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    kept = ", ".join(f"{p.kind}: {p.frontier_size} points, {'exact' if not p.slack else 'pruned'}" for p in problems)
    caption = f"Non-dominated allocations with uniform allocations marked ({kept}); {record.cell.id}."
    return Picture(_save(figure, out / f"{_stem(record, 'frontier')}.png"), "PMQ: Pareto frontier", caption)


def _bits(record: Row, out: Path) -> Picture:
    components = _details(record).components
    figure, axes = _wide(len(components), 2)
    average_bits = _details(record).average_bits
    averages = (average_bits.weights, average_bits.activations)
    for axis, operand, average in zip(axes, OPERANDS, averages, strict=True):
        heights = [(c.weight_bits if operand == "weight" else c.activation_bits) or 0 for c in components]
        axis.bar(range(len(components)), heights, color=[_shade(h, 8) if h else "none" for h in heights], width=0.8)
        axis.axhline(average, color="tab:red", lw=1, ls="--", label=f"average {average:.2f}")
        axis.set_ylabel(f"{operand} bits")
        axis.set_yticks([0, 2, 3, 4, 6, 8])
        axis.grid(axis="y", alpha=0.3)
        axis.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False)
    _name_components(axes[-1], components)
    caption = (
        "Bits chosen for every component; products have activations alone. Averages are over weights and over MACs; "
        f"{record.cell.id}."
    )
    return Picture(_save(figure, out / f"{_stem(record, 'bits')}.png"), "PMQ: chosen bits by layer", caption)


def _groups(records: Sequence[Row]) -> list[list[Row]]:
    """Records that differ in the allocation alone: same model, data, bits, and every other option."""
    found: dict[str, list[Row]] = {}
    for record in records:
        if record.metrics:
            free = {"allocation", "draw", "compare_search", "labels", "perturbation"}
            rest = sorted((k, str(v)) for k, v in _details(record).options if k not in free)
            key = (record.cell.task, record.cell.dataset, record.cell.model, record.cell.bits, str(rest))
            found.setdefault(str(key), []).append(record)
    return list(found.values())


def _comparison(records: Sequence[Row], number: int, out: Path) -> Picture:
    metric = next(iter(records[0].metrics))
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    shown = [a for a in ALLOCATIONS if any(_allocation(r) == a for r in records)]
    for spot, allocation in enumerate(shown):
        measured = [r.metrics[metric] for r in records if _allocation(r) == allocation]
        values = [m.value for m in measured]
        mean = sum(values) / len(values)
        spread = (
            math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
            if len(values) > 1
            else measured[0].stderr
        )
        offsets = [
            spot + 0.18 * (2 * i / max(1, len(values) - 1) - 1) if len(values) > 1 else spot for i in range(len(values))
        ]
        axis.plot(offsets, values, "o", ms=4, alpha=0.6, color=f"C{spot}")
        axis.errorbar(spot, mean, yerr=spread, fmt="_", ms=26, mew=2, capsize=5, color=f"C{spot}")
        axis.annotate(f"{mean:.1f}", (spot, mean), (34, 4), textcoords="offset points", fontsize=9)
    axis.set_xticks(range(len(shown)), [_label(a, records) for a in shown])
    axis.set_xlim(-0.5, len(shown) - 0.4)
    axis.set_ylabel(f"{metric} (%)")
    axis.grid(axis="y", alpha=0.3)
    first = records[0].cell
    caption = (
        f"Allocations of equal {_details(records[0]).options.cost} with the same base quantizer on {first.model}, "
        f"{first.dataset}, {first.bits}. Bars: standard deviation over draws where there are several, else the "
        f"standard error of the one."
        f"{_times(records)}"
    )
    path = out / f"pmq_plots_comparison_{number}_{first.model}_{first.bits}.png"
    return Picture(_save(figure, path), "PMQ: allocations of equal cost", caption)


def _label(allocation: str, records: Sequence[Row]) -> str:
    count = sum(_allocation(r) == allocation for r in records)
    return allocation.replace("_", "-") + (f"\n({count} draws)" if count > 1 else "")


def _times(records: Sequence[Row]) -> str:
    """One sentence on search times, from records that measured both in one run."""
    for record in records:
        seconds = _details(record).search_seconds
        if {"pareto", "leave_one_out", "frontier"} <= set(seconds):
            ours, theirs = seconds["pareto"] + seconds["frontier"], seconds["leave_one_out"]
            return f" Search in one run: PMQ {ours:.2f} s, leave-one-out {theirs:.1f} s ({theirs / ours:.0f} times)."
    return ""

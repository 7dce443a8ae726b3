"""PMQ's pictures: sensitivity of every component, the frontier, chosen bits by layer, allocations side by side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitq.details.pmq import Component, Details, Operand, Problem
from vitq.reports.pictures import Picture
from vitq.reports.style import clean, file_name, plain_log, save
from vitq.rows import Row

OPERANDS: tuple[Operand, Operand] = ("weight", "activation")
ALLOCATIONS = ("pareto", "leave_one_out", "uniform", "random")


def draw(records: Sequence[Row], results: Path, out: Path) -> list[Picture]:  # noqa: ARG001
    """Each model once: sensitivities, frontiers with what every width chose, all bits, and allocations side by side."""
    pictures: list[Picture] = []
    said = [record for record in records if isinstance(record.details, Details)]
    for place in sorted({(r.cell.dataset, r.cell.model, r.cell.scope) for r in said}):
        of = [r for r in said if (r.cell.dataset, r.cell.model, r.cell.scope) == place]
        searched = [r for r in of if _details(r).sensitivity_by == "pareto" and _allocation(r) == "pareto"]
        searched.sort(key=lambda r: (r.cell.variant != "", r.cell.variant, r.cell.seed, r.cell.bits))
        if searched:
            pictures += [_sensitivity(searched[0], out), _frontiers(searched, out), _bits(searched, out)]
        groups = [same for same in _groups(of) if len({_allocation(r) for r in same}) > 1]
        pictures += [_comparison(groups, out)] if groups else []
    return pictures


def _details(record: Row) -> Details:
    assert isinstance(record.details, Details)
    return record.details


def _allocation(record: Row) -> str:
    return _details(record).options.allocation


def _path(record: Row, what: str, out: Path) -> Path:
    return out / f"pmq_plots_{what}_{file_name(record.cell.dataset, record.cell.model)}.png"


def _named(record: Row) -> str:
    variant = f" {record.cell.variant}" if record.cell.variant else ""
    seed = f" seed {record.cell.seed}" if record.cell.seed else ""
    return f"{record.cell.bits}{variant}{seed}"


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
            axis.plot(
                [i for i, _ in shown],
                [v for _, v in shown],
                "o",
                ms=4,
                label=f"{bits} bit",
                color=_shade(shade, len(widths)),
            )
        axis.set_yscale("log")
        plain_log(axis.yaxis)
        axis.set_ylabel(f"sensitivity of the {operand}s")
        axis.grid(alpha=0.3)
        axis.legend(ncols=len(widths), fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    _name_components(axes[-1], components)
    caption = (
        f"Estimated change of the loss when one component is quantized, from one backward pass "
        f"({_details(record).options.perturbation}); {record.cell.id}."
    )
    title = f"PMQ: sensitivity of every component, {record.cell.model}"
    words = tuple(_sensitivities(component) for component in components)
    return Picture(save(figure, _path(record, "sensitivity", out)), title, caption, words)


def _sensitivities(component: Component) -> dict[str, str]:
    """A component's sensitivities as words, by operand and width."""
    by_width = {
        f"{operand}, {bits} bit": f"{value:.3g}"
        for operand in OPERANDS
        for bits, value in sorted(component.sensitivity.get(operand, {}).items())
    }
    return {"component": component.name, **by_width}


def _shade(index: int, count: int) -> Any:
    return matplotlib.colormaps["viridis"](0.9 * index / max(1, count - 1))


UNITS = {
    "weights": ("weight size", "MB", 8e6),
    "activations": ("activation bits x MACs", "G", 1e9),
    "bitops": ("BitOPs", "G", 1e9),
}


def _frontiers(records: Sequence[Row], out: Path) -> Picture:
    """A panel a kind of budget: the frontier of its first run, and the allocation that every run chose on it."""
    problems = [(record, problem) for record in records for problem in _details(record).problems if problem.frontier]
    kinds = list(dict.fromkeys(problem.kind for _, problem in problems))
    figure, axes = plt.subplots(1, len(kinds), figsize=(5.6 * len(kinds), 4.4), squeeze=False, layout="constrained")
    for axis, kind in zip(axes[0], kinds, strict=True):
        _frontier(axis, [(record, problem) for record, problem in problems if problem.kind == kind])
    first = {kind: next(problem for _, problem in problems if problem.kind == kind) for kind in kinds}
    kept = ", ".join(
        f"{kind}: {p.frontier_size} points, {'exact' if not p.slack else 'pruned'}" for kind, p in first.items()
    )
    caption = (
        f"Non-dominated allocations of {records[0].cell.model} on {records[0].cell.dataset} with uniform allocations "
        f"marked ({kept}), as {records[0].cell.id} found them; a star is what a run chose within its budget: "
        f"{', '.join(_named(record) for record in records)}."
    )
    words = tuple(
        {
            "run": _named(record), "budget of": UNITS[p.kind][0],
            "budget": f"{p.budget / UNITS[p.kind][2]:.4g} {UNITS[p.kind][1]}",
            "chosen": f"{p.chosen[0] / UNITS[p.kind][2]:.4g} {UNITS[p.kind][1]}" if p.chosen else "",
            "its sensitivity": f"{p.chosen[1]:.3g}" if p.chosen else "",
        }
        for record, p in problems
    )  # fmt: skip
    title = f"PMQ: Pareto frontier, {records[0].cell.model}"
    return Picture(save(figure, _path(records[0], "frontier", out)), title, caption, words)


def _frontier(axis: Axes, problems: Sequence[tuple[Row, Problem]]) -> None:
    record, problem = problems[0]
    title, unit, scale = UNITS[problem.kind]
    costs, values = zip(*problem.frontier, strict=True)
    axis.plot([c / scale for c in costs], values, "-", lw=1.5, label=f"frontier ({_named(record)})")
    uniform = [(cost / scale, value) for _, cost, value in problem.uniform]
    axis.plot([c for c, _ in uniform], [v for _, v in uniform], "s", color="tab:orange", label="uniform")
    for bits, cost, value in problem.uniform:
        axis.annotate(f"{bits} bit", (cost / scale, value), (6, 4), textcoords="offset points", fontsize=8)
    for index, (run, each) in enumerate(problems):
        if each.chosen:
            colour = matplotlib.colormaps["plasma"](0.85 * index / max(1, len(problems) - 1))
            axis.plot(each.chosen[0] / scale, each.chosen[1], "*", ms=12, color=colour, label=_named(run))
    axis.set_yscale("log")
    plain_log(axis.yaxis)
    axis.margins(x=0.12, y=0.12)
    axis.set_xlabel(f"{title} ({unit})")
    axis.set_ylabel("summed sensitivity")
    clean(axis)
    axis.legend(fontsize=7, loc="upper right")


def _bits(records: Sequence[Row], out: Path) -> Picture:
    """A row a run, a column a component, a panel an operand; the width is written in its field."""
    names = list(dict.fromkeys(c.name for record in records for c in _details(record).components))
    wide, high = max(7.0, 0.3 * len(names)), 0.9 + 0.62 * len(records)
    figure, panels = plt.subplots(2, 1, figsize=(wide, high + 1.0), sharex=True, squeeze=False, layout="constrained")
    for axis, operand in zip(panels[:, 0], OPERANDS, strict=True):
        _fields(axis, records, names, operand)
    panels[-1, 0].set_xticks(range(len(names)), [short(name) for name in names], rotation=90, fontsize=7)
    caption = (
        f"Bits chosen for every component of {records[0].cell.model} on {records[0].cell.dataset}; products have "
        "activations alone. Averages beside the runs are over weights and over MACs."
    )
    words = tuple(
        {"component": name, **{f"{_named(r)} (weights / activations)": _both(r, name) for r in records}}
        for name in names
    )
    title = f"PMQ: chosen bits by layer, {records[0].cell.model}"
    return Picture(save(figure, _path(records[0], "bits", out)), title, caption, words)


def _both(record: Row, name: str) -> str:
    found = next((c for c in _details(record).components if c.name == name), None)
    return "" if found is None else f"{found.weight_bits or '-'} / {found.activation_bits}"


def _fields(axis: Axes, records: Sequence[Row], names: Sequence[str], operand: Operand) -> None:
    widths = [{c.name: _width(c, operand) for c in _details(record).components} for record in records]
    values = [[row.get(name) or math.nan for name in names] for row in widths]
    axis.imshow(values, cmap="viridis", vmin=0, vmax=8, aspect="auto")
    for y, row in enumerate(values):
        for x, bits in enumerate(row):
            if not math.isnan(bits):
                axis.text(
                    x, y, f"{bits:g}", ha="center", va="center", fontsize=7, color="black" if bits > 5 else "white"
                )
    averages = [_details(record).average_bits for record in records]
    mean = [each.weights if operand == "weight" else each.activations for each in averages]
    labels = [f"{_named(record)} (average {value:.2f})" for record, value in zip(records, mean, strict=True)]
    axis.set_yticks(range(len(records)), labels, fontsize=7)
    axis.set_title(f"{operand} bits", fontsize=9, loc="left")
    axis.spines[:].set_visible(False)


def _width(component: Component, operand: Operand) -> int | None:
    return component.weight_bits if operand == "weight" else component.activation_bits


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


def _comparison(groups: Sequence[Sequence[Row]], out: Path) -> Picture:
    """A panel a group of runs that differ in the allocation alone."""
    figure, panels = plt.subplots(1, len(groups), figsize=(6.4 * len(groups), 3.8), squeeze=False, layout="constrained")
    words: list[dict[str, str]] = []
    for axis, records in zip(panels[0], groups, strict=True):
        words += _allocations(axis, records)
    first = groups[0][0]
    caption = (
        f"Allocations of equal {_details(first).options.cost} with the same base quantizer on {first.cell.model}, "
        f"{first.cell.dataset}. Bars: standard deviation over draws where there are several, else the standard error "
        f"of the one.{_times([record for records in groups for record in records])}"
    )
    title = f"PMQ: allocations of equal cost, {first.cell.model}"
    return Picture(save(figure, _path(first, "comparison", out)), title, caption, tuple(words))


def _allocations(axis: Axes, records: Sequence[Row]) -> list[dict[str, str]]:
    """Every allocation's runs with mean and spread; returns them as words."""
    metric, words = next(iter(records[0].metrics)), []
    shown = [a for a in ALLOCATIONS if any(_allocation(r) == a for r in records)]
    for spot, allocation in enumerate(shown):
        measured = [r.metrics[metric] for r in records if _allocation(r) == allocation and metric in r.metrics]
        values = [m.value for m in measured]
        mean = statistics.fmean(values)
        spread = statistics.stdev(values) if len(values) > 1 else measured[0].stderr
        wide = max(1, len(values) - 1)
        offsets = [spot + (0.18 * (2 * i / wide - 1) if len(values) > 1 else 0) for i in range(len(values))]
        axis.plot(offsets, values, "o", ms=4, alpha=0.6, color=f"C{spot}")
        axis.errorbar(spot, mean, yerr=spread, fmt="_", ms=26, mew=2, capsize=5, color=f"C{spot}")
        axis.annotate(f"{mean:.1f}", (spot, mean), (34, 4), textcoords="offset points", fontsize=9)
        told = f"{mean:.2f}" + ("" if spread is None else f" ± {spread:.2f}")
        words.append(
            {"bits": records[0].cell.bits, "allocation": allocation, "runs": str(len(values)), f"{metric} %": told}
        )
    axis.set_xticks(range(len(shown)), [_label(a, records) for a in shown])
    axis.set_xlim(-0.5, len(shown) - 0.4)
    axis.set_ylabel(f"{metric} (%)")
    axis.set_title(records[0].cell.bits, fontsize=10, loc="left")
    clean(axis)
    return words


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

"""The picture of accuracy against packed size, a panel a model, with the Pareto front."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from vitq.metrics import label, main_metrics
from vitq.reports.labels import Bar, Name, write_names
from vitq.reports.measured import over_seeds
from vitq.reports.pareto import pareto_front
from vitq.reports.pictures import Picture
from vitq.reports.style import clean, look, method_handle, save
from vitq.reports.verdicts import group_seeds
from vitq.rows import Row


class Point(NamedTuple):
    """A run in the accuracy-size plane: packed MB, percent (mean over seeds), standard error."""

    method: str
    variant: str
    bits: str
    size: float
    accuracy: float
    stderr: float

    @property
    def label(self) -> str:
        """`repq_vit W4A4`, with the variant if it has one."""
        if self.method == "fp32":
            return "FP32"
        return f"{self.method} {self.bits}" + (f"\n{self.variant}" if self.variant else "")


def points_by_panel(records: Iterable[Row]) -> dict[tuple[str, str, str], list[Point]]:
    """Finished runs with an accuracy and a size, by metric, data set and model; seeds are averaged."""
    panels: dict[tuple[str, str, str], list[Point]] = defaultdict(list)
    for run in group_seeds(records):
        cell, size = run[0].cell, run[0].size
        for metric in main_metrics(cell.task):
            metrics = [r.metrics[metric] for r in run if metric in r.metrics]
            if run[0].status != "done" or size is None or not metrics:
                continue
            mean = over_seeds([m.value for m in metrics])
            error = mean.stderr if mean.stderr is not None else metrics[0].stderr
            data = cell.dataset + (f", limit {cell.limit}" if cell.limit else "")
            panels[metric, data, cell.model].append(
                Point(cell.method, cell.variant, cell.bits, size.packed_mb, mean.value, error or 0.0)
            )
    return dict(sorted(panels.items()))


def accuracy_against_size(records: Iterable[Row], out: Path) -> list[Picture]:
    """One panel a model, one marker a method, variants hollow; the front is a line and its points are named."""
    panels = points_by_panel(records)
    if not panels:
        return []
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    canvas, grid = plt.subplots(rows, columns, figsize=(6.4 * columns, 4.8 * rows), squeeze=False)
    for axes, (key, points) in zip(grid.flat, panels.items(), strict=False):
        _panel(axes, points, key)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    canvas.tight_layout(h_pad=2.0)
    for axes, points in zip(grid.flat, panels.values(), strict=False):
        names = [Name(p.size, p.accuracy, p.label) for p in _front(points)]
        write_names(axes, names, [Bar(p.size, p.accuracy, p.stderr) for p in points])
    _legend(canvas, {p.method for points in panels.values() for p in points})
    caption = (
        "Mean over seeds with its standard error (over samples for a single seed). "
        "Points on the front are named where there is room: no other run is both smaller and better."
    )
    file = save(canvas, out / "accuracy_against_size.png")
    return [Picture(file, "Accuracy against packed size", caption)]


def _legend(canvas: Canvas, methods: set[str]) -> None:
    handles = [method_handle(method) for method in sorted(methods, key=lambda m: (m != "fp32", m))]
    handles.append(Line2D([], [], marker="o", linestyle="", markerfacecolor="none", color="#555555", label="variant"))
    handles.append(Line2D([], [], color="#444444", linewidth=1.2, linestyle="-", label="Pareto front"))
    canvas.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=min(len(handles), 5), frameon=False
    )


def _front(points: Sequence[Point]) -> list[Point]:
    return [points[i] for i in pareto_front([(p.size, p.accuracy) for p in points])]


def _panel(axes: Axes, points: Sequence[Point], key: tuple[str, str, str]) -> None:
    metric, data, model = key
    clean(axes)
    for point in points:
        _draw(axes, point)
    front = _front(points)
    axes.step([p.size for p in front], [p.accuracy for p in front], where="post", color="#444444", lw=1.2, zorder=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(f"{model}  ({data})", fontsize=10, loc="left")
    axes.set_xlabel("packed size, MB (log scale)")
    axes.set_ylabel(f"{label(metric)}, %")
    axes.margins(x=0.18, y=0.24)
    low, high = axes.get_ylim()
    ticks = MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(low, high)
    axes.set_yticks([tick for tick in ticks if 0 <= tick <= 100])
    axes.set_ylim(low, high)


def _draw(axes: Axes, point: Point) -> None:
    colour, marker = look(point.method)
    axes.errorbar(
        point.size,
        point.accuracy,
        yerr=point.stderr or None,
        color=colour,
        marker=marker,
        markersize=11 if marker == "*" else 7,
        markerfacecolor="none" if point.variant else colour,
        linestyle="",
        elinewidth=0.8,
        alpha=0.9,
        zorder=3,
    )

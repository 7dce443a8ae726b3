"""Accuracy against packed size with the Pareto front, and measured against reported figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from vitq.reports.figure import ACCURACY, Figure
from vitq.reports.measured import over_seeds
from vitq.reports.pareto import pareto_front
from vitq.reports.pictures import Picture
from vitq.reports.style import clean, look, save
from vitq.reports.tables import PRIMARY
from vitq.reports.verdicts import Comparison, group_seeds
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
        for metric in PRIMARY.get(cell.task, ()):
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
    methods = dict.fromkeys(p.method for points in panels.values() for p in points)
    handles = [*(_handle(method) for method in sorted(methods, key=lambda m: (m != "fp32", m)))]
    handles.append(Line2D([], [], marker="o", linestyle="", markerfacecolor="none", color="#555555", label="variant"))
    handles.append(Line2D([], [], color="#444444", linewidth=1.2, linestyle="-", label="Pareto front"))
    canvas.tight_layout(h_pad=2.0)
    canvas.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=min(len(handles), 5), frameon=False
    )
    caption = (
        "Mean over seeds with its standard error (over samples for a single seed). "
        "Points on the front are named: no other run is both smaller and better."
    )
    file = save(canvas, out / "accuracy_against_size.png")
    return [Picture(file, "Accuracy against packed size", caption)]


def _handle(method: str) -> Line2D:
    colour, marker = look(method)
    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=7, label=method)


def _panel(axes: Axes, points: Sequence[Point], key: tuple[str, str, str]) -> None:
    metric, data, model = key
    clean(axes)
    for point in points:
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
    front = [points[i] for i in pareto_front([(p.size, p.accuracy) for p in points])]
    axes.step([p.size for p in front], [p.accuracy for p in front], where="post", color="#444444", lw=1.2, zorder=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(f"{model}  ({data})", fontsize=10, loc="left")
    axes.set_xlabel("packed size, MB (log scale)")
    axes.set_ylabel(f"{metric.replace('top1', 'top-1 accuracy')}, %")
    axes.margins(x=0.14, y=0.16)
    axes.set_ylim(top=min(axes.get_ylim()[1], 112))
    axes.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], prune="upper" if axes.get_ylim()[1] > 110 else None))
    _write_names(axes, [(p.size, p.accuracy, p.label) for p in front])


def _write_names(axes: Axes, names: Sequence[tuple[float, float, str]]) -> None:
    """Name points beside them: the first of several places that is inside the axes and covers no earlier label.

    A name that has no free place is left out; the table holds it.
    """
    taken: list[Bbox] = []
    inside = axes.get_window_extent()
    for x, y, label in sorted(names):
        for right, up in ((-7, 8), (8, -8), (-7, 22), (8, -24), (-7, 38), (8, -40)):
            text = axes.annotate(
                label,
                (x, y),
                (right, up),
                textcoords="offset points",
                fontsize=7,
                color="#333333",
                ha="right" if right < 0 else "left",
                va="bottom" if up > 0 else "top",
                zorder=5,
            )
            box = text.get_window_extent()
            if box.x0 >= inside.x0 and box.x1 <= inside.x1 and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def measured_against_reported(comparisons: Sequence[Comparison], out: Path) -> list[Picture]:
    """Accuracies only: filled where compared, hollow where not comparable, ringed and barred where disputed."""
    shown = [c for c in comparisons if c.figure and c.figure.metric in ACCURACY and c.measured is not None]
    if not shown:
        return []
    canvas, axes = plt.subplots(figsize=(6.6, 6.2))
    clean(axes)
    for comparison in shown:
        _compared(axes, comparison)
    _identity(axes, shown)
    axes.set_xlabel("reported, %")
    axes.set_ylabel("measured, %")
    methods = sorted({c.records[0].cell.method for c in shown})
    handles = [_handle(method) for method in methods] + _verdict_handles()
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    caption = (
        "The line is equality. Hollow: not comparable, for the reason in the table. Ringed: the figure is disputed, "
        "and the bar is what others measured. The next picture names the figures that could be compared."
    )
    first = Picture(save(canvas, out / "measured_against_reported.png"), "Measured against reported", caption)
    return [first, *_differences(shown, out)]


def _figure_label(figure: Figure) -> str:
    return f"{figure.method}{f'[{figure.variant}]' if figure.variant else ''} {figure.model} {figure.bits}"


def _differences(shown: Sequence[Comparison], out: Path) -> list[Picture]:
    """One row a comparable figure: measured less reported, over the tolerance it is judged by."""
    rows = [c for c in shown if c.verdict != "not-comparable" and c.figure]
    if not rows:
        return []
    rows.sort(key=lambda c: (c.records[0].cell.method, _figure_label(c.figure), c.figure.table) if c.figure else ())
    canvas, axes = plt.subplots(figsize=(7.0, 1.2 + 0.24 * len(rows)))
    clean(axes)
    axes.axvline(0, color="#888888", linewidth=1, zorder=1)
    for place, comparison in enumerate(rows):
        _difference(axes, comparison, place)
    axes.set_xscale("symlog", linthresh=1, linscale=1.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axes.set_yticks(range(len(rows)), [_row_label(c.figure) for c in rows if c.figure], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    reach = [1.3 * v for c in rows if c.figure for v in (c.difference or 0.0, c.figure.tolerance, -c.figure.tolerance)]
    axes.set_xlim(min(reach), max(reach))
    axes.set_xlabel("measured less reported, points (linear within 1, logarithmic beyond)")
    caption = (
        "Figures that could be compared. Grey band: the tolerance of the row. Filled: reproduced; hollow: above or "
        "below. Red: a disputed figure, the bar is what others measured."
    )
    return [Picture(save(canvas, out / "differences.png"), "Measured less reported, figure by figure", caption)]


def _row_label(figure: Figure) -> str:
    kind = {"primary": "paper", "restated": "restated"}.get(figure.evidence, figure.evidence)
    table = f", {figure.table}" if figure.table and kind in ("paper", "restated") else ""
    return f"{_figure_label(figure)} {figure.metric}  ({kind}{table})"


def _difference(axes: Axes, comparison: Comparison, place: int) -> None:
    figure, difference = comparison.figure, comparison.difference
    if figure is None or difference is None:
        return
    axes.barh(place, 2 * figure.tolerance, left=-figure.tolerance, height=0.7, color="#E4E4E4", zorder=1)
    if figure.disputed_low is not None and figure.disputed_high is not None:
        ends = [figure.disputed_low - figure.value, figure.disputed_high - figure.value]
        axes.plot(ends, [place] * 2, color="#B00020", linewidth=2.5, marker="|", markersize=7, zorder=2)
    colour, marker = look(comparison.records[0].cell.method)
    axes.plot(
        difference,
        place,
        marker=marker,
        color="#B00020" if comparison.verdict == "disputed" else colour,
        markerfacecolor=colour if comparison.verdict == "reproduced" else "white",
        markersize=6,
        zorder=3,
    )


def _compared(axes: Axes, comparison: Comparison) -> None:
    figure, measured = comparison.figure, comparison.measured
    if figure is None or measured is None:
        return
    colour, marker = look(comparison.records[0].cell.method)
    hollow = comparison.verdict == "not-comparable"
    axes.errorbar(
        figure.value,
        measured,
        yerr=comparison.stderr,
        color=colour,
        marker=marker,
        markersize=7,
        markerfacecolor="none" if hollow else colour,
        linestyle="",
        elinewidth=0.8,
        zorder=3,
    )
    if figure.disputed_low is not None and figure.disputed_high is not None:
        axes.plot([figure.value], [measured], marker="o", markersize=15, color="#B00020", fillstyle="none", zorder=4)
        ends = (figure.disputed_low, figure.disputed_high)
        axes.plot([figure.value] * 2, ends, color="#B00020", marker="_", markersize=9, linewidth=2, zorder=2)


def _identity(axes: Axes, shown: Sequence[Comparison]) -> None:
    values = [v for c in shown if c.figure and c.measured is not None for v in (c.figure.value, c.measured)]
    pad = max(2.0, 0.06 * (max(values) - min(values)))
    ends = (min(values) - pad, max(values) + pad)
    axes.plot(ends, ends, color="#888888", linewidth=1, linestyle="--", zorder=1)
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_aspect("equal")


def _verdict_handles() -> list[Line2D]:
    grey, red = "#555555", "#B00020"
    return [
        Line2D([], [], marker="o", linestyle="", color=grey, label="compared"),
        Line2D([], [], marker="o", linestyle="", color=grey, markerfacecolor="none", label="not comparable"),
        Line2D([], [], marker="o", linestyle="", color=red, markersize=13, fillstyle="none", label="disputed figure"),
        Line2D([], [], color=red, linewidth=2, label="others measured"),
        Line2D([], [], color="#888888", linewidth=1, linestyle="--", label="equality"),
    ]

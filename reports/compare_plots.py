"""Pictures of verdicts: measured against reported, and the difference of every figure that could be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from vitq.reports.compare_tables import most_different
from vitq.reports.figure import ACCURACY, Figure
from vitq.reports.pictures import Picture
from vitq.reports.style import clean, look, method_handle, save
from vitq.reports.verdicts import Comparison


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
    handles = [method_handle(method) for method in methods] + _verdict_handles()
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
    rows, left_out = most_different([c for c in shown if c.verdict != "not-comparable" and c.figure])
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
        f"below. Red: a disputed figure, the bar is what others measured.{left_out}"
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

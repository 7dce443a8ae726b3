"""The picture of a machine's roofline with every timed form of its models under it; `roofline` says what is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from vitq.peaks import PRODUCTS, Peaks, What
from vitq.reports.labels import Bar, Name, write_names
from vitq.reports.latency_table import short
from vitq.reports.pictures import Picture
from vitq.reports.roofline import WORDS, Panel, Point, points, roof_at
from vitq.reports.style import clean, look, save
from vitq.rows import Row

COLUMNS = 2
ROOFS: dict[What, str] = {"fp32": "#000000", "bf16": "#999933", "int8": "#CC79A7", "binary": "#56B4E9"}


def rooflines(records: Iterable[Row], peaks: Peaks, out: Path) -> list[Picture]:
    """A panel a model and batch: the machine's roofs and its forms; nothing where none was timed on that machine."""
    panels = points(records, peaks)
    if not panels:
        return []
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    canvas, grid = plt.subplots(rows, columns, figsize=(7.8 * columns, 5.8 * rows), squeeze=False)
    for axes, (panel, forms) in zip(grid.flat, panels.items(), strict=False):
        _panel(axes, panel, forms, peaks)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    canvas.tight_layout(h_pad=2.0)
    for axes, forms in zip(grid.flat, panels.values(), strict=False):
        names = [Name(p.intensity, p.rate, p.label) for p in forms]
        write_names(axes, names, [Bar(p.intensity, p.rate, 0.0) for p in forms], _along_roofs(axes, peaks))
    caption = (
        f"Roofs as measured with {peaks.threads} threads on {peaks.device}: {_best(peaks)}. A point is a form's MACs a "
        f"second over its MACs for each byte of weights, with its share of its roof. {WORDS} What has no free place is "
        "not named; the table has every form."
    )
    return [Picture(save(canvas, out / "roofline.png"), "Roofline", caption)]


def _best(peaks: Peaks) -> str:
    kinds: tuple[What, ...] = (*PRODUCTS, "read")
    best = [rate for what in kinds if (rate := peaks.best(what)) is not None]
    return "; ".join(f"{rate.what} {rate.median / 1e9:.4g} G{rate.unit} by {rate.by}" for rate in best)


def _span(forms: list[Point], peaks: Peaks) -> tuple[float, float]:
    """From left of where the lowest roof bends, or the first point, to right of the last."""
    read = peaks.best("read")
    bends = [rate.median / read.median for what in PRODUCTS if (rate := peaks.best(what)) and read]
    at = [p.intensity for p in forms]
    return min([*bends, *at]) / 2, max([*bends, *at]) * 6


def _panel(axes: Axes, panel: Panel, forms: list[Point], peaks: Peaks) -> None:
    clean(axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = _span(forms, peaks)
    x = np.geomspace(low, high, 200)
    roofs = {what: [roof_at(peaks, what, v) or 0.0 for v in x] for what in PRODUCTS if peaks.best(what)}
    for what, y in roofs.items():
        axes.plot(x, y, color=ROOFS[what], linewidth=1.4, zorder=2)
        axes.annotate(
            what, (high, y[-1]), (4, 0), textcoords="offset points", fontsize=8, color=ROOFS[what], va="center",
            annotation_clip=False,
        )  # fmt: skip
    for point in forms:
        colour, marker = look(point.method)
        axes.plot(point.intensity, point.rate, color=colour, marker=marker, markersize=8, linestyle="", zorder=3)
    axes.set_xlim(low, high)
    rates = [p.rate for p in forms]
    bottom, top = min([*rates, *(y[0] for y in roofs.values())]), max([*rates, *(y[-1] for y in roofs.values())])
    axes.set_ylim(bottom / 1.5, top * 1.8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e9:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    threads = f"{peaks.threads} thread{'s' if peaks.threads > 1 else ''}"
    axes.set_title(f"{short(panel.model)}, batch {panel.batch}  ({peaks.device}, {threads})", fontsize=10, loc="left")
    axes.set_xlabel("MACs for each byte of weights, read once a batch (log scale)")
    axes.set_ylabel("GMAC/s (log scale)")


def _along_roofs(axes: Axes, peaks: Peaks) -> list[Bar]:
    """Places along the roofs, so that no name lies on one."""
    low, high = axes.get_xlim()
    return [
        Bar(x, roof, 0.0)
        for what in PRODUCTS
        for x in np.geomspace(low, high, 60).tolist()
        if (roof := roof_at(peaks, what, x)) is not None
    ]

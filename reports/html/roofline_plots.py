"""The machine's roofs with every timed form under them, a plot a model and batch; see `roofline` for what is drawn."""

from __future__ import annotations

from collections.abc import Iterable

from vitq.escape import line
from vitq.peaks import PRODUCTS, Peaks, What
from vitq.reports.html.cells import Cell, number
from vitq.reports.html.plots import Dot, Plot, axes, curve, markers
from vitq.reports.roofline import WORDS, Panel, Point, points, roof_at
from vitq.rows import Row

ROOFS: dict[What, str] = {"fp32": "@ink", "bf16": "#8f8f2e", "int8": "#c76aa0", "binary": "#3fa9e0"}


def roofline_plots(records: Iterable[Row], peaks: Peaks) -> list[Plot]:
    """A plot a panel; none where nothing was timed on that machine."""
    return [_plot(i, panel, forms, peaks) for i, (panel, forms) in enumerate(points(records, peaks).items())]


def _plot(place: int, panel: Panel, forms: list[Point], peaks: Peaks) -> Plot:
    read = peaks.best("read")
    bends = [rate.median / read.median for what in PRODUCTS if (rate := peaks.best(what)) and read]
    at = [p.intensity for p in forms]
    low, high = min([*bends, *at]) / 2, max([*bends, *at]) * 4
    steps = [low * (high / low) ** (i / 80) for i in range(81)]
    roofs = [
        curve(steps, [(roof_at(peaks, what, x) or 0.0) / 1e9 for x in steps], f"{what} roof", color=ROOFS[what])
        for what in PRODUCTS
        if peaks.best(what)
    ]
    dots = [
        Dot(p.method, p.intensity, p.rate / 1e9, None, [p.name, p.exec, f"{p.rate / 1e9:.1f} GMAC/s{_share(p)}"], "")
        for p in forms
    ]
    rows: list[list[Cell]] = [
        [
            line(p.name),
            line(p.exec),
            number(p.intensity, f"{p.intensity:.1f}"),
            number(p.rate, f"{p.rate / 1e9:.1f}"),
            "" if p.share is None else f"{100 * p.share:.1f} % of {p.roof}",
        ]
        for p in forms
    ]
    threads = f"{peaks.threads} thread{'s' if peaks.threads > 1 else ''}"
    title = line(f"Roofline: {panel.model}, batch {panel.batch}, {peaks.device}, {threads}")
    layout = axes(
        "MACs for each byte of weights (log scale)", "GMAC/s (log scale)", log_x=at, log_y=[p.rate / 1e9 for p in forms]
    )
    columns = ["Form", "Computed by", "MAC/byte", "GMAC/s", "Share of its roof"]
    return Plot(f"roofline-{place}", title, WORDS, [*roofs, *markers(dots)], layout, columns, rows, 420)


def _share(point: Point) -> str:
    return "" if point.share is None else f", {100 * point.share:.1f} % of its {point.roof} roof"

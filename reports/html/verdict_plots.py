"""Plots of measured beside reported: all accuracies on one plane, and the difference of each that could be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitq.escape import line
from vitq.reports.compare_tables import most_different
from vitq.reports.figure import ACCURACY, Figure
from vitq.reports.html.cells import Cell, number
from vitq.reports.html.names import anchor
from vitq.reports.html.plots import Dot, Plot, axes, curve, markers, plain
from vitq.reports.html.sources import source_id
from vitq.reports.verdicts import Comparison

_Pair = tuple[Comparison, Figure, float]


def verdict_plots(comparisons: Sequence[Comparison]) -> list[Plot]:
    """Both plots, of those that there are points for."""
    pairs = [(c, c.figure, c.measured) for c in comparisons if c.figure is not None and c.measured is not None]
    accuracy = [pair for pair in pairs if pair[1].metric in ACCURACY]
    compared = [pair for pair in accuracy if pair[0].verdict != "not-comparable"]
    return [*([_plane(accuracy)] if accuracy else []), *([_differences(compared)] if compared else [])]


def figure_name(figure: Figure) -> str:
    """`repq_vit[channel] deit_small W4A4 top1`."""
    variant = f"[{figure.variant}]" if figure.variant else ""
    return line(f"{figure.method}{variant} {figure.model} {figure.bits} {figure.metric}")


def _plane(pairs: Sequence[_Pair]) -> Plot:
    dots = [
        Dot(
            c.records[0].cell.method, figure.value, measured, c.stderr,
            [figure_name(figure), f"reported {figure.printed}, measured {_measured(c, figure)}", c.verdict],
            anchor(c.records[0]), c.verdict == "not-comparable",
        )
        for c, figure, measured in pairs
    ]  # fmt: skip
    values = [v for _, figure, measured in pairs for v in (figure.value, measured)]
    low, high = max(0.0, min(values) - 3), min(100.0, max(values) + 3)
    equal = curve([low, high], [low, high], "equality", dash="dot")
    caption = "On the line measured equals reported. Hollow: not comparable; the table says why. Bars: standard error."
    layout = axes("reported, %", "measured, %")
    return Plot(
        "measured-against-reported", "Measured against reported accuracy", caption, [equal, *markers(dots)], layout,
        ["Figure", "Reported", "Measured", "Verdict"], [_row(*pair) for pair in pairs], 440,
    )  # fmt: skip


def _measured(c: Comparison, figure: Figure) -> str:
    return f"{c.measured:.{figure.decimals}f}" + ("" if c.stderr is None else f" ± {c.stderr:.2f}")


def _row(c: Comparison, figure: Figure, measured: float) -> list[Cell]:
    return [
        {"t": figure_name(figure), "r": source_id(figure)},
        number(figure.value, figure.printed),
        number(measured, _measured(c, figure), r=anchor(c.records[0])),
        c.verdict,
    ]


def _differences(pairs: Sequence[_Pair]) -> Plot:
    """A row a figure: the tolerance as a band, what others measured as a line, and the difference."""
    kept, left_out = most_different([c for c, _, _ in pairs])
    shown = {id(c) for c in kept}
    pairs = [pair for pair in pairs if id(pair[0]) in shown]
    ordered = sorted(pairs, key=lambda pair: (pair[0].records[0].cell.method, figure_name(pair[1])), reverse=True)
    names = [f"{plain(figure_name(figure))} ({plain(figure.table or figure.evidence)})" for _, figure, _ in ordered]
    places = list(range(len(ordered)))
    dots = [
        Dot(
            c.records[0].cell.method, c.difference or 0.0, place, None,
            [
                figure_name(figure),
                f"measured {_measured(c, figure)} less reported {figure.printed}: "
                f"{c.difference or 0:+.{figure.decimals}f}",
                f"{c.verdict}, tolerance {figure.tolerance:g}" + (f", others {figure.others}" if figure.others else ""),
            ],
            anchor(c.records[0]), c.verdict != "reproduced",
        )
        for place, (c, figure, _) in enumerate(ordered)
    ]  # fmt: skip
    layout = axes("measured less reported, points", "")
    layout["yaxis"] |= {"tickvals": places, "ticktext": names, "range": [-0.7, len(ordered) - 0.3], "automargin": True}
    layout["xaxis"] |= {"zeroline": True}
    rows: list[list[Cell]] = [
        [
            {"t": figure_name(figure), "r": source_id(figure)},
            number(c.difference, f"{c.difference or 0:+.{figure.decimals}f}", r=anchor(c.records[0])),
            f"{figure.tolerance:g}",
            figure.others,
            c.verdict,
        ]
        for c, figure, _ in reversed(ordered)
    ]
    caption = "Grey: the row's tolerance. Red: what others measured of a disputed figure. Filled: reproduced."
    caption += left_out
    traces = [_band(ordered), *_others(ordered), *markers(dots)]
    return Plot(
        "differences", "Measured less reported, figure by figure", caption, traces, layout,
        ["Figure", "Difference", "Tolerance", "Others measured", "Verdict"], rows, 130 + 24 * len(ordered),
    )  # fmt: skip


def _band(pairs: Sequence[_Pair]) -> dict[str, Any]:
    return {
        "type": "bar", "orientation": "h", "name": "tolerance", "hoverinfo": "skip",
        "y": list(range(len(pairs))), "x": [2 * figure.tolerance for _, figure, _ in pairs],
        "base": [-figure.tolerance for _, figure, _ in pairs], "marker": {"color": "@band"},
    }  # fmt: skip


def _others(pairs: Sequence[_Pair]) -> list[dict[str, Any]]:
    x: list[float | None] = []
    y: list[int | None] = []
    for place, (_, figure, _) in enumerate(pairs):
        if figure.disputed_low is not None and figure.disputed_high is not None:
            x += [figure.disputed_low - figure.value, figure.disputed_high - figure.value, None]
            y += [place, place, None]
    line_ = {"type": "scatter", "mode": "lines+markers", "name": "others measured", "hoverinfo": "skip", "x": x, "y": y}
    return [line_ | {"line": {"color": "@bad", "width": 3}, "marker": {"size": 4, "color": "@bad"}}] if x else []

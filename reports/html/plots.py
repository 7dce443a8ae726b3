"""A plot of the page as data: traces for plotly, a table of the same points, and what it was drawn from.

Colours that follow the reader's light or dark page are words that the script replaces: `@ink`, `@muted`, `@band`.
Plotly takes some tags in text for markup, so every text is escaped for it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from vitq.escape import line
from vitq.reports.html.cells import Cell

COLOURS = {
    "fp32": "@ink",
    "minmax": "#8a8a8a",
    "repq_vit": "#2f7fd0",
    "psaq_vit": "#e09a00",
    "psaq_vit_v2": "#d55e00",
    "pmq": "#009e73",
    "i_vit": "#c76aa0",
    "binary_vit": "#3fa9e0",
}
"""Okabe and Ito's, a little nearer to the middle so that they show on white and on black."""
SYMBOLS = {
    "fp32": "star",
    "minmax": "circle",
    "repq_vit": "square",
    "psaq_vit": "triangle-up",
    "psaq_vit_v2": "triangle-down",
    "pmq": "diamond",
    "i_vit": "cross",
    "binary_vit": "x",
}
_SPARE = (("#8d4a7a", "hexagon"), ("#3d8b4f", "pentagon"), ("#8f8f2e", "star-square"), ("#5b51b0", "hourglass"))


class Plot(NamedTuple):
    """A plot: id, title, caption, traces and layout for plotly, and its points as a table."""

    id: str
    title: str
    caption: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any]
    columns: list[str]
    rows: list[list[Cell]]
    height: int = 380

    @property
    def spec(self) -> dict[str, Any]:
        """What the page's script draws."""
        return {"traces": self.traces, "layout": self.layout, "height": self.height}


class Dot(NamedTuple):
    """A marker: method, place, its standard error upward, the lines shown on hover, and the anchor it leads to."""

    method: str
    x: float
    y: float
    error: float | None
    hover: Sequence[str]
    to: str
    hollow: bool = False


def look(method: str) -> tuple[str, str]:
    """Colour and symbol of a method; one that is not ours has a spare pair, always the same for its name."""
    spare = _SPARE[sum(method.encode()) % len(_SPARE)]
    return COLOURS.get(method, spare[0]), SYMBOLS.get(method, spare[1])


def plain(text: str) -> str:
    """One visible line that plotly shows as it is."""
    return html.escape(line(text), quote=False)


def markers(dots: Iterable[Dot], *, legend: bool = True) -> list[dict[str, Any]]:
    """A trace a method, FP32 first; hollow markers are in the trace of their method."""
    groups: dict[str, list[Dot]] = {}
    for dot in dots:
        if not (math.isfinite(dot.x) and math.isfinite(dot.y)):
            continue  # what has no place has none; its row in the table says what it is
        groups.setdefault(dot.method, []).append(dot)
    return [_trace(method, groups[method], legend) for method in sorted(groups, key=lambda m: (m != "fp32", m))]


def _trace(method: str, dots: Sequence[Dot], legend: bool) -> dict[str, Any]:
    colour, symbol = look(method)
    size = 13 if symbol == "star" else 10
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": "FP32" if method == "fp32" else plain(method),
        "x": [dot.x for dot in dots],
        "y": [dot.y for dot in dots],
        "hovertext": ["<br>".join(plain(text) for text in dot.hover) for dot in dots],
        "hoverinfo": "text",
        "customdata": [dot.to for dot in dots],
        "showlegend": legend,
        "marker": {
            "color": colour,
            "size": size,
            "symbol": [f"{symbol}-open" if dot.hollow else symbol for dot in dots],
            "line": {"width": 1.5, "color": colour},
        },
    }
    if any(dot.error for dot in dots):
        errors = [dot.error if dot.error and math.isfinite(dot.error) else 0 for dot in dots]
        trace["error_y"] = {"type": "data", "array": errors, "thickness": 1, "width": 3, "color": colour}
    return trace


def curve(x: Sequence[float], y: Sequence[float], name: str, **line_: Any) -> dict[str, Any]:
    """A line without hover; `shape="hv"` makes steps."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": plain(name),
        "x": [value if math.isfinite(value) else None for value in x],
        "y": [value if math.isfinite(value) else None for value in y],
        "hoverinfo": "skip",
        "line": {"color": "@muted", "width": 1.5, **line_},
    }


def axes(x: str, y: str, *, log_x: Sequence[float] = (), log_y: Sequence[float] = ()) -> dict[str, Any]:
    """A layout with these titles; an axis whose values are given here is logarithmic, marked at 1, 2 and 5."""
    return {
        "xaxis": {"title": {"text": plain(x)}, **_scale(log_x)},
        "yaxis": {"title": {"text": plain(y)}, **_scale(log_y)},
    }


def _scale(values: Sequence[float]) -> dict[str, Any]:
    shown = [value for value in values if math.isfinite(value) and value > 0]
    if not shown:
        return {"type": "linear"}
    low = max(-300, math.floor(math.log10(min(shown))) - 1)
    high = min(300, math.ceil(math.log10(max(shown))) + 1)
    digits = (1, 2, 5) if high - low < 6 else (1,)
    ticks = [float(f"{digit}e{power}") for power in range(low, high + 1) for digit in digits]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}

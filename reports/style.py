"""How pictures look: colours that colour-blind readers can tell apart (Okabe and Ito), one marker a method."""

from __future__ import annotations

import re

import matplotlib as mpl

mpl.use("Agg")

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

mpl.rcParams["text.parse_math"] = False  # a $ in a record's name is a $

COLOURS = {
    "fp32": "#000000",
    "minmax": "#7F7F7F",
    "repq_vit": "#0072B2",
    "psaq_vit": "#E69F00",
    "psaq_vit_v2": "#D55E00",
    "pmq": "#009E73",
    "i_vit": "#CC79A7",
    "binary_vit": "#56B4E9",
}
MARKERS = {
    "fp32": "*",
    "minmax": "o",
    "repq_vit": "s",
    "psaq_vit": "^",
    "psaq_vit_v2": "v",
    "pmq": "D",
    "i_vit": "P",
    "binary_vit": "X",
}
_SPARE_COLOURS = ("#882255", "#117733", "#999933", "#332288")
_SPARE_MARKERS = ("<", ">", "h", "p")


def look(method: str) -> tuple[str, str]:
    """Colour and marker of a method; one that is not ours gets a spare pair, always the same for its name."""
    spare = sum(method.encode()) % len(_SPARE_COLOURS)
    return COLOURS.get(method, _SPARE_COLOURS[spare]), MARKERS.get(method, _SPARE_MARKERS[spare])


def method_handle(method: str) -> Line2D:
    """A method's entry in a legend."""
    colour, marker = look(method)
    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=7, label=method)


def clean(axes: Axes) -> None:
    """Light grid, no box."""
    axes.grid(True, which="major", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plain_log(axis: Axis) -> None:
    """Numbers of a logarithmic axis as words: matplotlib's own are mathematics, which names here must not be."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def file_name(*parts: str) -> str:
    """Names as one part of a file's name: letters, digits, `-`, `_` and `.` alone, so that every tool takes it."""
    kept = ("".join(c if c.isascii() and (c.isalnum() or c in "-.") else "_" for c in part) for part in parts)
    return re.sub("_+", "_", "_".join(part.strip("_.") for part in kept if part))


def save(canvas: Canvas, path: Path) -> Path:
    """Write the PNG without the date and version that matplotlib puts in, so that equal pictures are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=150, bbox_inches="tight", metadata={"Software": None})
    plt.close(canvas)
    return path

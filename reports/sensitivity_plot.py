"""What each component of a model costs when it is quantized, drawn: measured with its error, estimated beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from vitq.reports import style

MEASURED, ESTIMATED = style.COLOURS["repq_vit"], style.COLOURS["psaq_vit"]


def draw(rows: Sequence[Mapping[str, Any]], title: str, metric: str, path: Path) -> Path:
    """Two columns of bars, a row a component from the top: `lost` ± its error in points, and `estimated`.

    The estimate is drawn on a logarithmic scale where all of it is positive.
    """
    canvas, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(9.0, max(2.4, 0.26 * len(rows) + 1.2)))
    places = range(len(rows))
    left.barh(
        places, [row["lost"] for row in rows], xerr=[row["±"] for row in rows], color=MEASURED,
        error_kw={"ecolor": "#444444", "elinewidth": 0.8, "capsize": 2},
    )  # fmt: skip
    left.axvline(0, color="#444444", linewidth=0.8)
    left.set_xlabel(f"{metric} lost, points (± standard error of the paired difference)")
    estimated = [row["estimated"] for row in rows]
    right.barh(places, estimated, color=ESTIMATED)
    if estimated and min(estimated) > 0:
        right.set_xscale("log")
        right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        right.xaxis.set_minor_formatter(NullFormatter())
    right.set_xlabel("estimated: PMQ's sensitivity")
    left.set_yticks(places, [str(row["component"]) for row in rows], fontsize=7)
    left.invert_yaxis()
    for axes in (left, right):
        style.clean(axes)
    left.margins(y=0.01)
    canvas.suptitle(textwrap.fill(title, 110), fontsize=9)
    canvas.tight_layout()
    if path.suffix.lower() == ".png":
        return style.save(canvas, path)
    canvas.savefig(path, bbox_inches="tight")
    plt.close(canvas)
    return path

"""The picture of accuracy against latency: every method and kernel, a panel a model, data set, batch and machine."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from vitq.metrics import label, main_metrics
from vitq.record import LatencyRow
from vitq.reports.labels import Bar, Name, write_names
from vitq.reports.latency_table import EAGER, is_kernel, kind_of, short
from vitq.reports.measured import over_seeds
from vitq.reports.pictures import Picture
from vitq.reports.style import clean, look, method_handle, save
from vitq.reports.verdicts import group_seeds
from vitq.rows import Row

COLUMNS = 2
BASELINES: dict[str, tuple[Literal["-", "--"], str]] = {"strongest": ("-", "#000000"), "eager": ("--", "#777777")}


class Panel(NamedTuple):
    """What a panel is of; only times of one batch, thread count, device and machine are in it."""

    metric: str
    data: str
    model: str
    batch: int
    threads: int
    device: str
    machine: str


class Timed(NamedTuple):
    """A kernel's time and the model's accuracy: median and quartiles in ms, percent and its standard error."""

    method: str
    variant: str
    bits: str
    exec: str
    median: float
    lower: float
    upper: float
    accuracy: float
    stderr: float

    @property
    def label(self) -> str:
        """`i_vit W8A8`, and below it how it was computed; cut where somebody's names are long."""
        named = short(f"{self.method} {self.bits}" + (f" {self.variant}" if self.variant else ""))
        return f"{named}\n{short(self.exec)}"


class Shown(NamedTuple):
    """A panel's points, and the medians in ms of FP32 forms by name."""

    points: list[Timed]
    floats: dict[str, float]

    @property
    def baselines(self) -> dict[str, tuple[str, float]]:
        """The FP32 forms that are drawn as lines: the strongest, and eager torch; by role, exec and ms."""
        best = min(self.floats, key=self.floats.__getitem__, default=None)
        found = {"strongest": (best, self.floats[best])} if best is not None else {}
        return found | ({"eager": (EAGER, self.floats[EAGER])} if EAGER in self.floats and best != EAGER else {})


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """p25 and p75; of one sample, that sample twice."""
    if len(samples) < 2:
        return samples[0], samples[0]
    lower, _, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return lower, upper


def panels(records: Iterable[Row]) -> dict[Panel, Shown]:
    """Kernels of finished cells whose accuracy is known, over seeds; panels without a kernel are left out."""
    points: dict[Panel, list[Timed]] = defaultdict(list)
    floats: dict[Panel, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in group_seeds(records):
        for metric in main_metrics(run[0].cell.task):
            found = [record.metrics[metric] for record in run if metric in record.metrics]
            if not found:
                continue
            mean = over_seeds([m.value for m in found])
            error = mean.stderr if mean.stderr is not None else found[0].stderr or 0.0
            for (panel, exec), rows in _by_form(run, metric).items():
                if kind_of(rows[0]) == EAGER:
                    floats[panel][exec] += [row.median_ms for row in rows]
                elif is_kernel(rows[0]):
                    points[panel].append(_timed(run[0], exec, rows, mean.value, error))
    return {
        panel: Shown(shown, {exec: statistics.median(each) for exec, each in floats[panel].items()})
        for panel, shown in sorted(points.items())
    }


def _by_form(run: Sequence[Row], metric: str) -> dict[tuple[Panel, str], list[LatencyRow]]:
    found: dict[tuple[Panel, str], list[LatencyRow]] = defaultdict(list)
    for record in run:
        cell, origin = record.cell, record.latency_provenance or record.provenance
        data = cell.dataset + (f", limit {cell.limit}" if cell.limit else "")
        for row in record.latency:
            panel = Panel(metric, data, cell.model, row.batch, row.threads, row.device, origin.machine)
            found[panel, row.exec].append(row)
    return found


def _timed(record: Row, exec: str, rows: Sequence[LatencyRow], accuracy: float, error: float) -> Timed:
    samples = [ms for row in rows for ms in row.samples_ms]
    median = rows[0].median_ms if len(rows) == 1 else statistics.median(samples)
    cell = record.cell
    return Timed(cell.method, cell.variant, cell.bits, exec, median, *quartiles(samples), accuracy, error)


def latency_against_accuracy(records: Iterable[Row], out: Path) -> list[Picture]:
    """One panel a model, data set and batch; FP32 forms are vertical lines, kernels are points with their names."""
    found = panels(records)
    if not found:
        return []
    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    canvas, grid = plt.subplots(rows, columns, figsize=(6.6 * columns, 4.9 * rows), squeeze=False)
    for axes, (panel, shown) in zip(grid.flat, found.items(), strict=False):
        _panel(axes, panel, shown)
    for axes in list(grid.flat)[len(found) :]:
        axes.set_visible(False)
    canvas.tight_layout(h_pad=2.0)
    for axes, shown in zip(grid.flat, found.values(), strict=False):
        names = [Name(p.median, p.accuracy, p.label) for p in shown.points]
        points = [Bar(p.median, p.accuracy, p.stderr) for p in shown.points]
        write_names(axes, names, points, _curves(axes, shown))
    _legend(canvas, {p.method for shown in found.values() for p in shown.points})
    caption = (
        "Points are kernels that compute at the named width: median of the rounds with its quartiles, accuracy with "
        "its standard error; hollow points are variants. Lines are FP32 on the same machine: eager torch and the "
        "fastest runtime. Fake-quant times are no latency of a model and are not drawn. What has no free place is not "
        "named; the table of latency has every row."
    )
    file = save(canvas, out / "latency_against_accuracy.png")
    return [Picture(file, "Accuracy against latency", caption)]


def _curves(axes: Axes, shown: Shown) -> list[Bar]:
    """Places along quartiles and the lines of FP32, which names keep clear of."""
    low, high = axes.get_ylim()
    lines = [Bar(at, (low + high) / 2, (high - low) / 2) for _, at in shown.baselines.values()]
    along = [Bar(p.lower * (p.upper / p.lower) ** (i / 8), p.accuracy, 0.0) for p in shown.points for i in range(9)]
    return [*lines, *along]


def _legend(canvas: Canvas, methods: set[str]) -> None:
    handles = [method_handle(method) for method in sorted(methods)]
    for handle in handles:
        handle.set_label(short(str(handle.get_label())))
    words = {"strongest": "fastest FP32", "eager": "FP32, eager torch"}
    handles += [
        Line2D([], [], color=colour, linestyle=style, linewidth=1.1, label=words[role])
        for role, (style, colour) in BASELINES.items()
    ]
    canvas.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=min(len(handles), 5), frameon=False
    )


def _panel(axes: Axes, panel: Panel, shown: Shown) -> None:
    clean(axes)
    for role, (_, at) in shown.baselines.items():
        style, colour = BASELINES[role]
        axes.axvline(at, color=colour, linestyle=style, linewidth=1.1, zorder=1)
    for point in shown.points:
        _draw(axes, point)
    axes.set_xscale("log")
    reach = [x for p in shown.points for x in (p.lower, p.upper, p.median)] + [at for _, at in shown.baselines.values()]
    axes.set_xlim(min(reach) / 1.9, max(reach) * 1.5)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.3)
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
    axes.set_ylim(low, high)
    where = f"{panel.device}, {panel.threads} thread{'s' if panel.threads > 1 else ''}"
    axes.set_title(
        f"{short(panel.model)}  ({short(panel.data)})\nbatch {panel.batch}, {short(where)}"
        + (f", machine {short(panel.machine)}" if panel.machine else ""),
        fontsize=9, loc="left",
    )  # fmt: skip
    best = shown.baselines.get("strongest")
    axes.set_xlabel("ms a batch (log scale)" + (f"; fastest FP32: {short(best[0])} {best[1]:.3g} ms" if best else ""))
    axes.set_ylabel(f"{label(panel.metric)}, %")


def _draw(axes: Axes, point: Timed) -> None:
    colour, marker = look(point.method)
    axes.errorbar(
        point.median, point.accuracy, yerr=point.stderr or None,
        xerr=[[max(0.0, point.median - point.lower)], [max(0.0, point.upper - point.median)]],
        color=colour, marker=marker, markersize=7, markerfacecolor="none" if point.variant else colour, linestyle="",
        elinewidth=0.8, alpha=0.9, zorder=3,
    )  # fmt: skip

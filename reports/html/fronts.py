"""Pareto fronts: accuracy against packed size, BitOPs and measured latency, for each model on its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from vitq.escape import line
from vitq.metrics import label, main_metrics
from vitq.reports import latency_plot
from vitq.reports.html.cells import Cell, number
from vitq.reports.html.names import anchor, data_name, run_name
from vitq.reports.html.plots import Dot, Plot, axes, curve, markers
from vitq.reports.measured import over_seeds
from vitq.reports.pareto import pareto_front
from vitq.reports.verdicts import Run, group_seeds
from vitq.rows import Row


class Cost(NamedTuple):
    """What accuracy is set against: its axis, unit, and the value of a record (None where it was not counted)."""

    id: str
    title: str
    axis: str
    of: Callable[[Row], float | None]


COSTS = (
    Cost("size", "packed size", "packed size, MB", lambda r: r.size.packed_mb if r.size else None),
    Cost("bitops", "BitOPs", "BitOPs, G", lambda r: r.operations.bitops / 1e9 if r.operations else None),
)


class Front(NamedTuple):
    """The plots of one model on one data set by one metric; `missing` says what could not be drawn."""

    id: str
    title: str
    plots: list[Plot]
    missing: str


class _Point(NamedTuple):
    method: str
    name: str
    cost: float
    accuracy: float
    error: float
    seeds: int
    to: str
    hollow: bool


def fronts(records: Iterable[Row]) -> list[Front]:
    """One for each metric, data set and model with a finished run whose accuracy and cost are known."""
    runs = [run for run in group_seeds(records) if run[0].status == "done"]
    timed = latency_plot.panels(records)
    grouped: dict[tuple[str, str, str, str], list[Run]] = {}
    for run in runs:
        for metric in main_metrics(run[0].cell.task):
            if any(metric in record.metrics for record in run):
                key = (run[0].cell.task, data_name(run[0]), run[0].cell.model, metric)
                grouped.setdefault(key, []).append(run)
    found = []
    for place, (key, of) in enumerate(sorted(grouped.items())):
        _, data, model, metric = key
        plots = [plot for cost in COSTS if (plot := _against(cost, of, metric, f"front-{place}-{cost.id}"))]
        panels = {
            panel: shown
            for panel, shown in timed.items()
            if (panel.metric, panel.model) == (metric, of[0][0].cell.model) and panel.data == _panel_data(of[0][0])
        }
        plots += [
            _latency(panel, shown, of, f"front-{place}-latency-{i}") for i, (panel, shown) in enumerate(panels.items())
        ]
        missing = "" if panels else "Latency: no integer or binary kernel of this model was timed."
        found.append(Front(f"front-{place}", f"{line(model)} on {data}, {label(metric)}", plots, missing))
    return [front for front in found if front.plots]


def _panel_data(record: Row) -> str:
    return record.cell.dataset + (f", limit {record.cell.limit}" if record.cell.limit else "")


def _accuracy(run: Run, metric: str) -> tuple[float, float]:
    found = [record.metrics[metric] for record in run if metric in record.metrics]
    mean = over_seeds([m.value for m in found])
    return mean.value, (mean.stderr if mean.stderr is not None else found[0].stderr) or 0.0


def _against(cost: Cost, runs: Sequence[Run], metric: str, id: str) -> Plot | None:
    points = []
    for run in runs:
        value, first = cost.of(run[0]), run[0]
        if value:
            accuracy, error = _accuracy(run, metric)
            names = (first.cell.method, run_name(first))
            points.append(_Point(*names, value, accuracy, error, len(run), anchor(first), bool(first.cell.variant)))
    return _plot(id, f"Accuracy against {cost.title}", cost.axis, metric, points) if points else None


def _latency(panel: latency_plot.Panel, shown: latency_plot.Shown, runs: Sequence[Run], id: str) -> Plot:
    by_name = {(run[0].cell.method, run[0].cell.variant, run[0].cell.bits): anchor(run[0]) for run in runs}
    fp32 = next((run for run in runs if run[0].cell.method == "fp32"), None)
    points = [
        _Point(
            p.method, line(p.label.replace("\n", ", ")), p.median, p.accuracy, p.stderr, 1,
            by_name.get((p.method, p.variant, p.bits), ""), bool(p.variant),
        )
        for p in shown.points
    ]  # fmt: skip
    if fp32 is not None:
        accuracy, error = _accuracy(fp32, panel.metric)
        to = anchor(fp32[0])
        points += [
            _Point("fp32", line(f"FP32, {exec}"), ms, accuracy, error, 1, to, exec != "fp32")
            for exec, ms in shown.floats.items()
        ]
    where = f"batch {panel.batch}, {panel.device}, {panel.threads} thread{'s' if panel.threads > 1 else ''}"
    machine = f", {panel.machine}" if panel.machine else ""
    return _plot(id, f"Accuracy against latency, {line(where + machine)}", "ms a batch", panel.metric, points)


def _plot(id: str, title: str, axis: str, metric: str, points: Sequence[_Point]) -> Plot:
    on = set(pareto_front([(p.cost, p.accuracy) for p in points]))
    front = sorted((points[i] for i in on), key=lambda p: p.cost)
    unit = axis.rpartition(", ")[2].replace("ms a batch", "ms")
    dots = [
        Dot(
            p.method, p.cost, p.accuracy, p.error,
            [
                p.name,
                f"{label(metric)} {p.accuracy:.2f} ± {p.error:.2f} %" + (f", {p.seeds} seeds" if p.seeds > 1 else ""),
                f"{p.cost:.3g} {unit}" + (", on the front" if i in on else ""),
            ],
            p.to, p.hollow,
        )
        for i, p in enumerate(points)
    ]  # fmt: skip
    step = curve([p.cost for p in front], [p.accuracy for p in front], "Pareto front", shape="hv")
    rows: list[list[Cell]] = [
        [
            {"t": p.name, "r": p.to} if p.to else p.name,
            number(p.cost, f"{p.cost:.3g}"),
            number(p.accuracy, f"{p.accuracy:.2f} ± {p.error:.2f}"),
            "yes" if i in on else "",
        ]
        for i, p in sorted(enumerate(points), key=lambda each: (each[1].cost, -each[1].accuracy))
    ]
    caption = (
        f"{len(points)} runs, {len(front)} on the front: none is cheaper and better. Hollow: a variant, or another "
        "FP32 runtime. Bars: one standard error."
    )
    columns = ["Run", axis, f"{label(metric)} %", "On the front"]
    layout = axes(f"{axis} (log scale)", f"{label(metric)}, %", log_x=[p.cost for p in points])
    return Plot(id, title, caption, [step, *markers(dots)], layout, columns, rows)

"""Verdicts: each figure beside what the records measured, or the reason why the two cannot be compared.

A measurement is rounded to the figure's printed precision and may differ by the row's tolerance. Sampling error is no
part of it: a comparable run evaluates the very images that the paper did, so what remains is the spread of re-runs.
What must hold before numbers are compared is in `conditions`; whatever fails there makes a figure `not-comparable`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from vitq.reports.conditions import paper_model, row_of, why_not_comparable
from vitq.reports.effects import MethodOptions
from vitq.reports.figure import PACKAGES, Figure
from vitq.reports.measured import Measured, value_of
from vitq.rows import Row, by_cell

Verdict = Literal["reproduced", "above", "below", "disputed", "not-comparable", "no-figure", "not-run"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "above", "below", "disputed", "not-comparable", "no-figure", "not-run")


class Comparison(NamedTuple):
    """A figure (None: no paper has one) with the runs that measure it; `stderr` is over seeds, else over samples."""

    figure: Figure | None
    verdict: Verdict
    reason: str
    records: tuple[Row, ...] = ()
    measured: float | None = None
    stderr: float | None = None

    @property
    def difference(self) -> float | None:
        """Measured less reported, at the printed precision; None where one of them is missing."""
        if self.figure is None or self.measured is None:
            return None
        return round(round(self.measured, self.figure.decimals) - self.figure.value, self.figure.decimals)


Run = tuple[Row, ...]
"""Records of one cell that differ in nothing but the seed."""


def compare(records: Iterable[Row], figures: Sequence[Figure], options: MethodOptions) -> list[Comparison]:
    """A verdict for every figure, then `no-figure` for each run that no figure speaks of.

    Seeds of one cell are compared by their mean. A figure that several runs measure (a subset beside the whole set)
    has a comparison with each. `options` are those that the methods declare.
    """
    runs = group_seeds(records)
    found: list[Comparison] = []
    spoken_for: set[str] = set()
    for figure in figures:
        matching = [run for run in runs if row_of(figure, run[0], options)]
        done = [run for run in matching if run[0].status == "done" and (figure.counted or _evaluated(run))]
        spoken_for.update(r.cell.id for run in matching for r in run if not (figure.counted and r.metrics))
        found.extend(
            _once([_compared(figure, run, runs, options) for run in done]) or [_not_run(figure, matching, options)]
        )
    return found + [
        Comparison(None, "no-figure", _no_figure(run[0]), run)
        for run in runs
        if run[0].status == "done" and run[0].cell.id not in spoken_for
    ]


def group_seeds(records: Iterable[Row]) -> list[Run]:
    """Runs in order of their first record's id; of two records of one cell the last one counts."""
    groups: dict[str, list[Row]] = {}
    for record in by_cell(records).values():
        key = record.cell.model_dump(exclude={"id", "seed"})
        text = json.dumps([key, record.status, record.part("weights")], sort_keys=True, default=str)
        groups.setdefault(text, []).append(record)
    runs = [tuple(sorted(group, key=lambda r: (r.cell.seed, r.cell.id))) for group in groups.values()]
    return sorted(runs, key=lambda run: (run[0].cell.id, run[0].cell.dataset, run[0].cell.limit or 0, run[0].status))


def _compared(figure: Figure, run: Run, runs: Sequence[Run], options: MethodOptions) -> Comparison:
    measured = value_of(figure, run, runs)
    reasons = why_not_comparable(figure, run, options)
    if isinstance(measured, str):
        return Comparison(figure, "not-comparable", "; ".join([*reasons, measured]), run)
    if reasons:
        return Comparison(figure, "not-comparable", "; ".join(reasons), run, measured.value, measured.stderr)
    verdict, reason = _verdict_of(figure, measured)
    return Comparison(figure, verdict, reason, run, measured.value, measured.stderr)


def _verdict_of(figure: Figure, measured: Measured) -> tuple[Verdict, str]:
    """The verdict of a measurement that is comparable, and the tolerance it rests on."""
    rounded = round(measured.value, figure.decimals)
    slack = figure.tolerance + 1e-9
    allowed = f"tolerance {figure.tolerance:g}: {figure.tolerance_reason}"
    if abs(rounded - figure.value) <= slack:
        return "reproduced", allowed + (f"; others measured {figure.others}" if figure.disputed else "")
    if figure.disputed_low is not None and figure.disputed_high is not None:
        if figure.disputed_low - slack <= rounded <= figure.disputed_high + slack:
            return "disputed", f"others could not reproduce it either, they measured {figure.others}; {allowed}"
        allowed = f"others measured {figure.others}; {allowed}"
    return ("above" if rounded > figure.value else "below"), allowed


def _evaluated(run: Run) -> bool:
    """Whether anything but size and operations was measured; the accounting suite evaluates nothing."""
    return bool(run[0].metrics or run[0].latency or run[0].cell.dataset != "none")


def _not_run(figure: Figure, matching: Sequence[Run], options: MethodOptions) -> Comparison:
    """No finished run: say what became of those that were tried."""
    tried = [record for run in matching for record in run]
    if tried:
        counted = "only size and operations were counted" if tried[0].status == "done" else ""
        first = next(iter((tried[0].error or counted).splitlines()), "")
        return Comparison(figure, "not-run", f"{tried[0].status}: {first}" if first else tried[0].status, tuple(tried))
    return Comparison(figure, "not-run", _no_cell(figure, options))


def _no_cell(figure: Figure, options: MethodOptions) -> str:
    """Why no cell measures a figure: none was asked for, or its method is not here, and what would add it."""
    package = PACKAGES.get(figure.cell_method)
    if package is not None and figure.cell_method not in options:
        return f"the method {figure.cell_method} is not installed: package {package} adds it"
    return figure.condition if "no such method" in figure.condition else "no such cell"


def _once(comparisons: list[Comparison]) -> list[Comparison]:
    """Counts need no data, so runs on several data sets give one and the same comparison: keep the first."""
    figure = comparisons[0].figure if comparisons else None
    if figure is None or not figure.counted:
        return comparisons
    kept = {(c.verdict, c.measured, c.reason): c for c in reversed(comparisons)}
    return list(reversed(kept.values()))


def _no_figure(record: Row) -> str:
    cell = record.cell
    variant = f", variant {cell.variant}" if cell.variant else ""
    return f"no source reports {cell.method} at {cell.bits} on {paper_model(record)}{variant}"

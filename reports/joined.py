"""Verdicts over several suites' runs: each is compared by itself, for cells of one name may differ between suites."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vitq.reports.effects import MethodOptions
from vitq.reports.figure import Figure
from vitq.reports.verdicts import Comparison, compare
from vitq.rows import Row


def compare_each(runs: Iterable[Sequence[Row]], figures: Sequence[Figure], options: MethodOptions) -> list[Comparison]:
    """Every figure with what each run measures of it, in the figures' order, then what no figure speaks of.

    A figure is `not-run` where no run measures it, with the reason of the run that tried, if one did. Counts that
    several runs give alike are given once.
    """
    found = [comparison for run in runs for comparison in compare(run, figures, options)]
    if not found:
        return compare((), figures, options)
    of_figures: dict[int, list[Comparison]] = {}
    for each in found:
        if each.figure is not None:
            of_figures.setdefault(id(each.figure), []).append(each)
    joined = [each for figure in figures for each in _of_one(of_figures.get(id(figure), []))]
    return joined + [each for each in found if each.figure is None]


def _of_one(found: Sequence[Comparison]) -> list[Comparison]:
    measured = [each for each in found if each.verdict != "not-run"]
    if not measured:
        return sorted(found, key=lambda each: not each.records)[:1]
    if measured[0].figure is not None and measured[0].figure.counted:
        return list({(each.verdict, each.measured, each.reason): each for each in reversed(measured)}.values())[::-1]
    return measured

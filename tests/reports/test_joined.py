"""Verdicts over several suites: cells of one name in two of them are two measurements, judged each by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from option_facts import declared_by_hand

from vitq.reports import joined
from vitq.reports.verdicts import compare

Make = Callable[..., Any]
OPTIONS = declared_by_hand()
compare_each = partial(joined.compare_each, options=OPTIONS)


def test_cells_of_one_name_in_two_suites_are_both_compared(record: Make, figure: Make) -> None:
    found = compare_each([[record(69.0)], [record(65.0)]], [figure()])
    assert [(each.measured, each.verdict) for each in found] == [(69.0, "reproduced"), (65.0, "below")]


def test_a_figure_that_one_suite_measures_is_not_called_not_run(record: Make, figure: Make) -> None:
    other = record(bits="W8A8")
    found = compare_each([[other], [record(69.0)]], [figure()])
    assert [each.verdict for each in found if each.figure is not None] == ["reproduced"]
    assert [each.records[0].cell.bits for each in found if each.figure is None] == ["W8A8"]


def test_of_suites_that_measured_nothing_the_one_that_tried_is_heard(record: Make, figure: Make) -> None:
    failed = record(None, status="failed", error="no convergence")
    (found,) = compare_each([[record(bits="W8A8")], [failed]], [figure()])[:1]
    assert (found.verdict, found.reason) == ("not-run", "failed: no convergence")


def test_counts_of_two_suites_are_given_once(record: Make, figure: Make) -> None:
    counted = figure(metric="model_size_mb", value=11.5, fp_value=None, decimals=1)
    assert counted.counted
    found = compare_each([[record()], [record(68.0)]], [counted])
    assert len([each for each in found if each.figure is not None]) == 1


def test_without_a_run_every_figure_is_not_run(figure: Make) -> None:
    assert compare_each([], [figure()]) == compare((), [figure()], OPTIONS)

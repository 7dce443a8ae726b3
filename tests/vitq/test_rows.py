"""Which lines of a results folder count, and what a row is made of them."""

from __future__ import annotations

import itertools

import pytest
from rows import CELL, asked, cell, fp32_of, lines, record, row

from vitq.record import Asked, Metric, Record
from vitq.rows import by_cell, join, latest

OTHER = CELL.replace("W4A4", "W8A8")


def accuracy(value: float, status: str = "done") -> Record:
    """The same measurement, with a value that tells it apart."""
    if status != "done":
        return record("accuracy", status=status, error="killed")
    return record("accuracy", metrics={"top1": Metric(value=value, n=200)})


def test_the_last_record_of_a_measurement_counts() -> None:
    first, second = accuracy(90.0), accuracy(91.0)
    assert latest([first, second]).records == {("accuracy", first.key): second}


@pytest.mark.parametrize("order", list(itertools.permutations(["done", "failed", "oom"])))
def test_a_finished_record_counts_before_any_failure(order: tuple[str, ...]) -> None:
    made = [accuracy(90.0, status) for status in order]
    (counts,) = latest(made).records.values()
    assert counts.status == "done"


def test_of_failures_the_last_counts_and_is_the_rows_status() -> None:
    failed, full = accuracy(0, "failed"), accuracy(0, "oom")
    asking = asked(CELL, full)
    assert [r.status for r in join([failed, asking, full])] == ["oom"]
    assert [r.status for r in join([full, asking, failed])] == ["failed"]


def test_the_last_asking_of_a_cell_counts() -> None:
    counts = record("counts", CELL)
    both, one = asked(CELL, counts, accuracy(90.0)), asked(CELL, counts)
    assert latest([both, one]).asked == {CELL: one}
    (found,) = join([counts, accuracy(90.0), both, one])
    assert set(found.keys) == {"counts"}
    assert found.metrics == {}


def test_a_row_a_cell_in_the_order_of_asking_and_none_of_what_is_unknown() -> None:
    unknown = Asked(cell=cell(OTHER.replace("seed0", "seed1")), keys={"counts": "00" * 32}, provenance=row().provenance)
    found = join([*lines(OTHER), unknown, *lines(CELL)])
    assert [each.cell.id for each in found] == [OTHER, CELL]
    assert found[0].fp32 == fp32_of(OTHER).metrics


def test_of_two_rows_of_one_cell_the_last_counts() -> None:
    first, second, other = row(), row(accuracy=accuracy(91.0)), row(OTHER)
    assert by_cell([first, other, second]) == {CELL: second, OTHER: other}

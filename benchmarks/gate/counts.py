"""Size and operations: every number of the baseline must be there and equal."""

from __future__ import annotations

from collections.abc import Iterator

from vitq.benchmarks.gate.policy import GateRow
from vitq.record import Operations, Size
from vitq.rows import Row


def judge_counts(old: Row, new: Row) -> Iterator[GateRow]:
    """A row for every number that the old row counts, its papers' conventions included."""
    yield from _exact(old.cell.id, "size", old.size, new.size)
    yield from _exact(old.cell.id, "operations", old.operations, new.operations)


def _exact(cell: str, part: str, old: Size | Operations | None, new: Size | Operations | None) -> Iterator[GateRow]:
    before = {} if old is None else _flat(old)
    after = {} if new is None else _flat(new)
    for name, value in before.items():
        found = after.get(name)
        row = GateRow(cell, f"{part} {name}", f"{value:.12g}", "absent", "0", "missing")
        if found is not None:
            row = row._replace(current=f"{found:.12g}", verdict="same" if found == value else "changed")
        yield row


def _flat(numbers: Size | Operations) -> dict[str, float]:
    return {name: n for name, n in numbers if name != "conventions"} | numbers.conventions

"""Size and operations: every number of the baseline must be there, and equal where nothing else is allowed."""

from __future__ import annotations

from collections.abc import Iterator

from vitq.benchmarks.gate.policy import GateRow, Policy
from vitq.record import Operations, Size
from vitq.rows import Row


def judge_counts(old: Row, new: Row, policy: Policy) -> Iterator[GateRow]:
    """A row for every number that the old row counts, its papers' conventions included."""
    yield from _numbers(old.cell.id, "size", old.size, new.size, policy)
    yield from _numbers(old.cell.id, "operations", old.operations, new.operations, policy)


def _numbers(
    cell: str, part: str, old: Size | Operations | None, new: Size | Operations | None, policy: Policy
) -> Iterator[GateRow]:
    before = {} if old is None else _flat(old)
    after = {} if new is None else _flat(new)
    for name, value in before.items():
        found, allowed = after.get(name), policy.of_count(name)
        told = f"±{allowed:g}" if allowed else "0"
        row = GateRow(cell, f"{part} {name}", f"{value:.12g}", "absent", told, "missing")
        if found is not None:
            row = row._replace(current=f"{found:.12g}", verdict=_verdict(found - value, allowed))
        yield row


def _verdict(difference: float, allowed: float) -> str:
    if difference == 0:
        return "same"
    return "within" if abs(difference) <= allowed else "changed"


def _flat(numbers: Size | Operations) -> dict[str, float]:
    return {name: n for name, n in numbers if name != "conventions"} | numbers.conventions

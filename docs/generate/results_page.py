"""The page of results: every cell of the stored records, and the verdicts on the papers' figures."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from measurements import comparisons, rows, told, unbroken, without_latency

from vitq.reports.compare_tables import compare_table, summary
from vitq.reports.run_tables import ablation_table, seeds_table
from vitq.reports.tables import results_table
from vitq.rows import Row


def results() -> str:
    """Tables a data set, then variants, seeds and verdicts."""
    known = sorted(without_latency(), key=_data)
    parts = [told(), *_machines(rows())]
    for name, group in groupby(known, key=_data):
        parts += [f"## {name}", unbroken(results_table(list(group), "markdown"))]
    for heading, table in (("Variants of a method", ablation_table(known)), ("Over seeds", seeds_table(known))):
        parts += [f"## {heading}", unbroken(table)]
    return "\n\n".join([*parts, "## Verdicts", summary(comparisons()), compare_table(comparisons(), "markdown")])


def _data(row: Row) -> str:
    return f"{row.cell.task}, {row.cell.dataset}"


def _machines(known: Iterable[Row]) -> list[str]:
    """What the records say of where they were measured, if they say it."""
    where = sorted({name for row in known for name in (row.provenance.gpu or row.provenance.cpu,) if name})
    return [f"Measured on: {', '.join(where)}."] if where else []

"""The page of results: every cell of the stored records, a part a suite, and the verdicts on the papers' figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from measurements import comparisons, runs, told, unbroken, without_latency

from vitq.benchmarks.plan.suite import load_suite
from vitq.reports.compare_tables import compare_table
from vitq.reports.latency_table import latency_table
from vitq.reports.layout import NOTHING
from vitq.reports.run_tables import ablation_table, seeds_table
from vitq.reports.tables import order, results_table
from vitq.rows import Row

TIMED = "latency"
"""The suite that is run for its times; what others time says what an evaluation costs."""


def results() -> str:
    """A part a suite: where it was measured, its cells a data set, variants, seeds, times; then the verdicts."""
    parts = [told()]
    for name, rows in runs().items():
        parts += [f"## `{name}`", load_suite(name).description.strip(), *_machines(rows), *_tables(name, rows)]
    return "\n\n".join([*parts, "## Verdicts", compare_table(comparisons(), "markdown")])


def _tables(name: str, rows: Sequence[Row]) -> Iterable[str]:
    known = sorted(order(without_latency(rows)), key=_data)
    for data, group in groupby(known, key=_data):
        yield from (f"### {name}: {data}", unbroken(results_table(list(group), "markdown")))
    more = {"Variants of a method": ablation_table(known), "Over seeds": seeds_table(known)}
    if name == TIMED:
        more["Times"] = latency_table(rows)
    for heading, table in more.items():
        if table != NOTHING:
            yield from (f"### {name}: {heading.lower()}", unbroken(table))


def _data(row: Row) -> str:
    return f"{row.cell.task}, {row.cell.dataset}"


def _machines(known: Iterable[Row]) -> list[str]:
    """What the records say of where, when and of which code they were measured, if they say it."""
    where = sorted({name for row in known for name in (row.provenance.gpu or row.provenance.cpu,) if name})
    commits = sorted({row.provenance.git_commit[:10] for row in known if row.provenance.git_commit})
    days = sorted({row.provenance.finished[:10] for row in known if row.provenance.finished})
    told = [f"on {'; '.join(where)}"] if where else []
    told += [f"of commit {', '.join(commits)}"] if commits else []
    told += [" to ".join(dict.fromkeys((days[0], days[-1])))] if days else []
    return [f"Measured {', '.join(told)}."] if told else []

"""What was measured: the records in reports/results where there are any, else those of the smoke suite's baseline."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from repository import ROOT

from vitq.benchmarks.commands.declared_options import declared_options
from vitq.benchmarks.run.store import read_rows
from vitq.reports.figure import load_figures
from vitq.reports.joined import compare_each
from vitq.reports.verdicts import Comparison
from vitq.rows import Row

KEPT, BASELINE = ROOT / "reports" / "results", ROOT / "baselines" / "smoke"


def folders() -> list[Path]:
    """The folders of records, each a suite's run."""
    return sorted(file.parent for file in KEPT.rglob("records.jsonl")) or [BASELINE]


def told() -> str:
    """Which records the tables are made of, in one sentence."""
    found = folders()
    if found == [BASELINE]:
        return "Measured in the smoke suite: small models of embedded digits, with recipes shortened to seconds."
    names = ", ".join(f"`{folder.relative_to(KEPT)}`" for folder in found)
    return f"Measured in the runs kept in `reports/results`: {names}."


@cache
def runs() -> dict[str, list[Row]]:
    """The rows of each folder, a row a cell, by the folder's name; the order is that of the folders' names."""
    return {folder.name: read_rows(folder) for folder in folders()}


def rows() -> list[Row]:
    """A row a cell, over all folders; cells of one name may be of several suites."""
    return [row for each in runs().values() for row in each]


@cache
def comparisons() -> list[Comparison]:
    """Every figure's verdicts, as `vitq compare` gives them on each folder's rows."""
    return compare_each(runs().values(), load_figures(), declared_options())


def without_latency(known: Iterable[Row]) -> list[Row]:
    """Rows without their times, which are of one machine and have tables of their own."""
    return [row.model_copy(update={"latency": [], "latency_around": {}}) for row in known]


def unbroken(table: str) -> str:
    """A table whose values stay on one line with their errors."""
    return table.replace(" ± ", "\u00a0±\u00a0")

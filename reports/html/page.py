"""Writes `report.html`: gathers what the page shows, fills the template, and puts everything it needs into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from vitq.escape import line
from vitq.metrics import main_metrics
from vitq.paired import Paired, against_fp32
from vitq.peaks import Peaks
from vitq.reports.figure import Figure
from vitq.reports.html import cells, limits, packed, summary, tables, timing_tables
from vitq.reports.html import records as record_parts
from vitq.reports.html.cells import Table
from vitq.reports.html.fronts import fronts
from vitq.reports.html.roofline_plots import roofline_plots
from vitq.reports.html.sources import sources
from vitq.reports.html.troubles import troubles
from vitq.reports.html.verdict_plots import verdict_plots
from vitq.reports.latency_table import peaks_rows, peaks_words
from vitq.reports.pictures import Picture
from vitq.reports.run_tables import SEEDS_RIGHT, seeds_rows, variant_rows
from vitq.reports.tables import marks_told
from vitq.reports.verdicts import Comparison
from vitq.rows import Row

OPEN_FRONTS = 12
"""Models whose fronts are open when the page opens; the rest open at a click."""


class Content(NamedTuple):
    """What a report is made of: rows in order, verdicts, figures, pictures, and what could not be drawn."""

    records: Sequence[Row]
    comparisons: Sequence[Comparison]
    figures: Sequence[Figure]
    pictures: Sequence[Picture]
    problems: Sequence[str]
    peaks: Peaks | None = None
    title: str = "Report"
    suite: str = ""


class Shown(NamedTuple):
    """A picture as it lies in the page: its address and size, words, and a table of what it was drawn from."""

    address: str
    width: int
    height: int
    title: str
    caption: str
    columns: list[str]
    rows: list[list[str]]


def write_page(content: Content, path: Path) -> Path:
    """Write the page; OSError where it cannot be written."""
    path.write_text(page(content), encoding="utf-8")
    return path


def page(content: Content) -> str:
    """The page as text: one file that needs nothing else and fetches nothing."""
    drops = paired_drops(content.records)
    shown = _tables(content, drops)
    planes, below = verdict_plots(content.comparisons), fronts(content.records)
    roofs = roofline_plots(content.records, content.peaks) if content.peaks is not None else []
    script = packed.own("report.js")
    every = {table.id: table.data for table in shown.values() if table is not None}
    plots = [*planes, *(plot for front in below for plot in front.plots), *roofs]
    needed = ["datatables", *(["plotly"] if plots else [])]
    return _environment().from_string(packed.own("report.html.j2")).render(
        **_words(content),
        tables=shown,
        verdict_plots=planes,
        fronts=below,
        open_fronts=OPEN_FRONTS,
        rooflines=roofs,
        pictures=_pictures(content.pictures),
        sources=sources(content.figures),
        stubs=record_parts.stubs(content.records),
        part_size=record_parts.PART,
        parts=record_parts.parts(content.records, drops),
        data={name: packed.packed_json(value) for name, value in every.items()},
        plots=packed.packed_json({plot.id: plot.spec for plot in plots}),
        libraries={name: packed.packed_library(name) for name in needed},
        style=packed.own("report.css"),
        script=script,
        policy=packed.policy(script),
    )  # fmt: skip


def _environment() -> Environment:
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["thousands"] = lambda number: f"{number:,}"
    return made


def _words(content: Content) -> dict[str, Any]:
    """What the first screen and the list of troubles say."""
    records, suite = content.records, line(content.suite)
    return {
        "title": line(content.title),
        "suite": suite,
        "lead": summary.lead(records),
        "run": summary.what_was_run(records),
        "commands": summary.commands(records),
        "on": summary.on_what(records),
        "limits": limits.must_not_be_concluded(records, content.comparisons),
        "verdicts": summary.verdict_counts(content.comparisons),
        "troubles": troubles(records, content.problems),
        "marks": [line(text) for text in marks_told(records)],
        "peaks_words": line(peaks_words(content.peaks)) if content.peaks is not None else "",
    }


def paired_drops(records: Sequence[Row]) -> dict[tuple[str, str], Paired | None]:
    """What quantization changed, sample by sample: each cell's main metrics against FP32, where both are known."""
    return {
        (record.cell.id, name): against_fp32(record, name)
        for record in records
        for name in main_metrics(record.cell.task) or sorted(record.metrics)
        if name in record.metrics and name in record.fp32 and record.cell.method != "fp32"
    }


def _tables(content: Content, drops: Mapping[tuple[str, str], Paired | None]) -> dict[str, Table | None]:
    records, peaks = content.records, content.peaks
    variants = variant_rows(records)
    widths = [name for name in (variants[0] if variants else {}) if name not in ("method", "data", "model", "variant")]
    return {
        "results": tables.results(records, content.comparisons, drops) if records else None,
        "compared": tables.compared(content.comparisons) if content.comparisons else None,
        "latency": timing_tables.latency(records),
        "peaks": cells.told("peaks-table", "What the machine reaches at most.", peaks_rows(peaks), ("median", "rounds"))
        if peaks is not None
        else None,
        "roofline": timing_tables.roofline(records, peaks) if peaks is not None else None,
        "variants": cells.told(
            "variants", "Variants of a method side by side, a column a width.", variants, widths, ("method", "model")
        ),
        "seeds": cells.told("seeds", "Spread of runs over seeds.", seeds_rows(records), SEEDS_RIGHT, ("metric",)),
    }


def _pictures(pictures: Sequence[Picture]) -> list[Shown]:
    shown = []
    for picture in pictures:
        columns = list(dict.fromkeys(name for row in picture.rows for name in row))
        rows = [[line(row.get(name, "")) for name in columns] for row in picture.rows]
        words = (line(picture.title), line(picture.caption))
        shown.append(Shown(*packed.picture_address(picture.file), *words, [line(name) for name in columns], rows))
    return shown

"""`vitq compare` and `vitq report`: verdicts on the papers' figures, as a table and as a report with pictures."""

from __future__ import annotations

from pathlib import Path

from vitq.benchmarks.commands.declared_options import declared_options
from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.commands.results import results_of
from vitq.benchmarks.run.results_path import check_folder
from vitq.benchmarks.run.store import read_rows
from vitq.peaks import read_peaks
from vitq.reports.compare_tables import compare_table
from vitq.reports.figure import load_figures
from vitq.reports.report import write_report
from vitq.reports.verdicts import compare as compare_rows

PEAKS = "peaks.json"
"""Where a results folder keeps the peaks of its machine, if somebody measured them."""


def compare(folder: Path, everything: bool, printer: Printer) -> int:
    """`vitq compare`: 0, or 4 when no figure could be compared."""
    comparisons = compare_rows(read_rows(folder), load_figures(), declared_options())
    printer.text(compare_table(comparisons, printer.fmt, everything, printer.width))
    return 0 if any(c.verdict in ("reproduced", "above", "below", "disputed") for c in comparisons) else 4


def report(
    suite_name: str | None, results: Path | None, site: Path | None, out: Path | None, peaks: Path | None = None
) -> int:
    """`vitq report`: writes report.html, report.md, tables and pictures; prints where. Given `peaks` must be there."""
    folder = results_of(suite_name, results, site)
    rows = read_rows(folder)
    suite = Path(suite_name).stem if suite_name else folder.resolve().name
    kept = folder / PEAKS
    measured = read_peaks(peaks or kept) if peaks is not None or kept.exists() else None
    out = out or folder / "report"
    check_folder(out, "the report's folder")
    print(write_report(rows, load_figures(), declared_options(), folder, out, peaks=measured, suite=suite))
    return 0

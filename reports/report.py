"""The report of a results folder: `report.md` with its tables and pictures, and the tables as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from vitq.escape import markdown
from vitq.peaks import Peaks
from vitq.reports import tables
from vitq.reports.compare_tables import compare_table
from vitq.reports.effects import MethodOptions
from vitq.reports.figure import Figure
from vitq.reports.html.page import Content, write_page
from vitq.reports.latency_table import latency_table
from vitq.reports.pictures import Picture, draw_method_pictures, method_sections
from vitq.reports.run_tables import ablation_table, seeds_table
from vitq.reports.run_words import latency_sections, troubles, what_was_run
from vitq.reports.verdicts import compare
from vitq.rows import Row


def write_report(
    records: Sequence[Row],
    figures: Sequence[Figure],
    options: MethodOptions,
    results: Path,
    out: Path,
    title: str = "Report",
    peaks: Peaks | None = None,
    suite: str = "",
) -> Path:
    """Write `report.html`, `report.md`, `results.csv`, `latency.csv`, `compare.csv` and PNGs; returns `report.md`.

    `out` is made; `report.html` needs no other file. `suite` is the name of what was run. `results` is the folder that
    the records' files are relative to; `options` are those that the methods declare; `peaks` are a machine's, for a
    roofline of what was timed on it. Any records will do, none at all included. OSError where `out` cannot be made or
    written.
    """
    from vitq.reports.compare_plots import measured_against_reported
    from vitq.reports.size_plot import accuracy_against_size

    out.mkdir(parents=True, exist_ok=True)
    records = tables.order(records)
    comparisons = compare(records, figures, options)
    (out / "results.csv").write_text(tables.results_table(records, "csv"), encoding="utf-8")
    (out / "latency.csv").write_text(latency_table(records, "csv"), encoding="utf-8")
    (out / "compare.csv").write_text(compare_table(comparisons, "csv"), encoding="utf-8")
    drawn = [*accuracy_against_size(records, out), *measured_against_reported(comparisons, out)]
    of_methods, problems = draw_method_pictures(records, results, out)
    predictions = _of_predictions(records, results, out, problems)
    drawn += predictions
    drawn += _of_latency(records, peaks, out, problems)
    sections = {
        title: what_was_run(records),
        "Warnings and failures": troubles(records, problems),
        "Results": tables.results_table(records),
        **latency_sections(records, peaks),
        "Against the papers": compare_table(comparisons) + "\n\nEvery figure, those not run too: `compare.csv`.",
        "Variants side by side": ablation_table(records),
        "Over seeds": seeds_table(records),
        **method_sections(records),
        "Pictures": _gallery([*drawn, *of_methods], out),
    }
    text = "\n\n".join(f"{'#' if name == title else '##'} {name}\n\n{body}" for name, body in sections.items())
    path = out / "report.md"
    path.write_text(text + "\n", encoding="utf-8")
    shown = [*predictions, *of_methods]
    write_page(Content(records, comparisons, figures, shown, problems, peaks, title, suite), out / "report.html")
    return path


def _of_predictions(records: Sequence[Row], results: Path, out: Path, problems: list[str]) -> list[Picture]:
    """Pictures of predictions; a file that is gone costs these pictures alone, and is added to `problems`."""
    from vitq.reports import prediction_plots

    try:
        return prediction_plots.draw(records, results, out)
    except Exception as error:  # whatever a drawing raises, the report is still worth having
        problems.append(f"predictions: no pictures, {type(error).__name__}: {error}")
        return []


def _of_latency(records: Sequence[Row], peaks: Peaks | None, out: Path, problems: list[str]) -> list[Picture]:
    """Latency against accuracy, and the roofline; one that fails costs itself alone, and is added to `problems`."""
    from vitq.reports import latency_plot, roofline_plot

    drawn: list[Picture] = []
    try:
        drawn += latency_plot.latency_against_accuracy(records, out)
    except Exception as error:  # whatever a drawing raises, the report is still worth having
        problems.append(f"latency: no picture, {type(error).__name__}: {error}")
    try:
        drawn += roofline_plot.rooflines(records, peaks, out) if peaks is not None else []
    except Exception as error:
        problems.append(f"roofline: no picture, {type(error).__name__}: {error}")
    return drawn


def _gallery(pictures: Sequence[Picture], out: Path) -> str:
    parts = []
    for picture in pictures:
        file = picture.file.resolve()
        place = file.relative_to(out.resolve()) if file.is_relative_to(out.resolve()) else file
        title = markdown(picture.title)
        parts.append(f"### {title}\n\n![{title}]({quote(place.as_posix())})\n\n{markdown(picture.caption)}")
    return "\n\n".join(parts) or "Nothing to draw."

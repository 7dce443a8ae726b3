"""What `vitq gate` does, from arguments to exit code."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.commands.results import results_of, title_of
from vitq.benchmarks.gate.accepted import read_accepted, told
from vitq.benchmarks.gate.annotations import annotated
from vitq.benchmarks.gate.junit import junit
from vitq.benchmarks.gate.matching import gate, read_baseline
from vitq.benchmarks.gate.policy import Policy
from vitq.benchmarks.gate.result import GateResult
from vitq.benchmarks.gate.spread import read_spread
from vitq.benchmarks.gate.summary import job_summary
from vitq.benchmarks.gate.update import Update, accept, refusal
from vitq.benchmarks.plan.picking import picker
from vitq.benchmarks.run.store import read_rows
from vitq.errors import BadInputError
from vitq.escape import markdown
from vitq.rows import Row

GITHUB_SUMMARY = "GITHUB_STEP_SUMMARY"


def run_gate(
    suite_name: str | None,
    baseline: Path,
    *,
    results: Path | None = None,
    site: Path | None = None,
    policy: Policy | None = None,
    k: str | None = None,
    junit_file: Path | None = None,
    summary_file: Path | None = None,
    printer: Printer | None = None,
    update: Update | None = None,
    annotate: bool = False,
) -> int:
    """Compare, print, write what CI shows; 0 good, 1 regression, 4 nothing or too little compared.

    Raises BadInputError for a suite, a baseline, results or outcomes that cannot be read, a file not to be written, and
    an update that cannot be made.
    """
    printer, folder, suite = printer or Printer(), results_of(suite_name, results, site), title_of(suite_name)
    before = read_baseline(baseline)
    spread = read_spread(baseline, before)
    result = gate(_picked(before, k), _picked(read_rows(folder), k), policy, spread)
    result = replace(result, accepted=told(read_accepted(baseline)))
    if _one_file(baseline, folder):
        printer.note(f"the baseline {baseline} is the results folder itself: give the results of an earlier run")
    if update is not None:
        result = _accepted(result, baseline, folder, update, printer)
    _print(result, printer)
    if annotate:
        for command in annotated(result, suite, _asking(suite_name)):
            printer.note(command)
    _write(result, suite, junit_file, summary_file)
    return result.exit_code


def _accepted(result: GateResult, baseline: Path, folder: Path, update: Update, printer: Printer) -> GateResult:
    """The result of an update; what is refused is printed before it is."""
    why = refusal(result, update)
    if _one_file(baseline, folder):
        why = f"--update takes the results of a later run, and {folder} is the baseline itself"
    if why:
        _print(result, printer)
        raise BadInputError(why)
    return accept(result, baseline, folder, update)


def _asking(suite_name: str | None) -> str:
    """The suite's file within the repository, which an annotation may point at; empty for a suite that ships."""
    path = Path(suite_name or "")
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return ""
    root = Path(os.environ.get("GITHUB_WORKSPACE") or ".").resolve()
    inside = path.resolve()
    return inside.relative_to(root).as_posix() if inside.is_relative_to(root) else ""


def _print(result: GateResult, printer: Printer) -> None:
    """The rows that differ; what is said beside them stands below, and for a program's reading apart from them."""
    if printer.fmt == "plain":
        print(result.render())
        return
    printer.table([row._asdict() for row in result.shown])
    for text in (*result.lines, result.summary):
        printer.note(text if printer.for_machines else f"\n{markdown(text)}")


def _picked(rows: list[Row], k: str | None) -> list[Row]:
    if not k:
        return rows
    pick = picker(k)
    return [row for row in rows if pick(row.cell.id)]


def _one_file(baseline: Path, folder: Path) -> bool:
    left, right = (path / "records.jsonl" if path.is_dir() else path for path in (baseline, folder))
    return left.samefile(right)


def _write(result: GateResult, suite: str, junit_file: Path | None, summary_file: Path | None) -> None:
    """JUnit as a file of its own; a summary is added to what the job's other steps wrote."""
    if junit_file is not None:
        _put(junit_file, junit(result, suite), "w")
    github = os.environ.get(GITHUB_SUMMARY)
    if summary_file is not None:
        _put(summary_file, job_summary(result, suite), "w")
    elif github:
        _put(Path(github), job_summary(result, suite), "a")


def _put(path: Path, text: str, mode: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInputError(f"{path} cannot be written: {reason}; name a file in a folder that is there") from None

"""`vitq verify`: check a suite's data and weights before hours are spent."""

from __future__ import annotations

from pathlib import Path

from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.plan.site import load_site
from vitq.benchmarks.plan.suite import NO_DATA, load_suite
from vitq.benchmarks.run.checks import Request, in_cells_process
from vitq.benchmarks.run.progress import phases, plain_console
from vitq.datasets.base import Check


def verify(
    suite_name: str, site: Path | None, sample: int, trust: bool = False, *, printer: Printer, quiet: bool = False
) -> int:
    """`vitq verify`: 0 when every check holds, 2 otherwise; a suite that reads no data needs none."""
    here = load_site(site).trusting(trust)  # before the suite, which may name its models
    suite = load_suite(suite_name)
    entries = [entry for entry in suite.tasks if entry.dataset != NO_DATA]
    if not entries:
        printer.note(f"suite {suite.name} uses neither data nor weights: there is nothing to check")
    every: list[Check] = []
    for entry in entries:
        with phases(plain_console(quiet)) as progress:
            request = Request(
                entry.task, tuple(entry.models), entry.dataset, here.places(), sample,
                (entry.calibration or suite.calibration).model_dump(), here.threads or suite.threads,
            )  # fmt: skip
            checks = in_cells_process(request, progress)
        every += checks
        for check in checks if printer.fmt == "plain" else ():
            print(f"{_word(check):<4} {check.name}: {check.message}")
    if entries and printer.fmt != "plain":
        printer.table([{"check": _word(check), "of": check.name, "found": check.message} for check in every])
    return 0 if all(check.ok for check in every) else 2


def _word(check: Check) -> str:
    return "ok" if check.ok else "FAIL"

"""What the commands do, from arguments to exit code."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from vitq import escape
from vitq.benchmarks.commands.declared_options import declared_options
from vitq.benchmarks.plan.cells import Refusal, expand, limited, picker
from vitq.benchmarks.plan.limits import within_machine
from vitq.benchmarks.plan.orders import Past, plan, results_folder, summary_of_changes, why_again
from vitq.benchmarks.plan.site import load_site
from vitq.benchmarks.plan.suite import Suite, load_suite
from vitq.benchmarks.run.executors import EXECUTORS
from vitq.benchmarks.run.messages import Order
from vitq.benchmarks.run.progress import listener, phases, plain_console
from vitq.benchmarks.run.results_path import check_folder, check_results
from vitq.benchmarks.run.runner import Summary
from vitq.benchmarks.run.runner import run as run_matrix
from vitq.benchmarks.run.store import FolderGoneError, Store, read_lines, read_rows
from vitq.errors import BadInputError
from vitq.record import CellKey
from vitq.rows import Row, by_cell
from vitq.words import nearest

PATIENCE_SECONDS = 5


def run(
    suite_name: str,
    *,
    k: str | None,
    limit: int | None,
    dry_run: bool,
    verbose: bool,
    device: str,
    executor: str,
    jobs: int,
    results: Path | None,
    site: Path | None,
    command: str,
) -> int:
    """`vitq run`: 0 good, 2 a cell met bad input, 3 a cell failed."""
    if executor not in EXECUTORS:
        raise BadInputError(f"no executor is called {executor!r}; {nearest(executor, EXECUTORS)}")
    suite, place = load_suite(suite_name), load_site(site)
    within_machine(suite.name, suite.threads, suite.latency.threads if suite.latency else None)
    cells, refused = _picked(suite, k, limit)
    folder = results_folder(suite, place, results)
    if not dry_run:
        check_results(folder)
    console = plain_console()
    with _said_if_slow(console):
        orders = plan(suite, cells, place, folder, device=device, command=command, jobs=jobs, fetch=not dry_run)
    if dry_run:
        _dry_run(orders, refused, folder, verbose)
        return 0
    store = Store(folder)
    for line in summary_of_changes(Past(store.lines()), orders):
        console.print(escape.line(line), soft_wrap=True)
    with listener(console) as told:
        summary = run_matrix(orders, store, EXECUTORS[executor](jobs), told)
    return _told(summary, store, orders, refused, console)


def _told(summary: Summary, store: Store, orders: Sequence[Order], refused: Sequence[Refusal], console: Console) -> int:
    """Print how a run ended: its table, then what went wrong; the exit code."""
    folder = store.folder
    try:
        rows = [] if summary.gone else store.rows()
    except FolderGoneError as error:
        summary.gone = str(error)
    if summary.gone:
        console.print(f"vitq: {summary.gone}", soft_wrap=True)
        return summary.exit_code
    if store.set_aside:
        console.print(f"a half-written line of a crash was moved to {folder / 'records.broken'}", soft_wrap=True)
    _print_results(_asked_for(rows, orders), refused, summary, folder)
    for line in summary.bad_inputs:
        console.print(f"vitq: {escape.line(line)}", soft_wrap=True)
    return summary.exit_code


@contextmanager
def _said_if_slow(console: Console) -> Iterator[None]:
    """Say on a terminal what planning does where it takes seconds: large data are read whole the first time."""
    said = "reading data and weights to know them by content: once, then it is remembered"
    timer = threading.Timer(PATIENCE_SECONDS, console.print, args=(said,))
    timer.daemon = True
    if console.is_terminal:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _picked(suite: Suite, k: str | None, limit: int | None) -> tuple[list[CellKey], list[Refusal]]:
    cells, refused = expand(suite)
    if limit is not None and suite.mode != "accounting":
        cells = [limited(cell, limit) for cell in cells]
    if k is not None:
        pick = picker(k)
        cells, refused = [c for c in cells if pick(c.id)], [r for r in refused if pick(r.id)]
    if not cells:
        raise BadInputError(f"no cell of suite {suite.name} matches -k {k!r}: see `vitq list cells {suite.name}`")
    return cells, refused


def _dry_run(orders: Sequence[Order], refused: Sequence[Refusal], folder: Path, verbose: bool) -> None:
    past = Past(read_lines(folder) if (folder / "records.jsonl").is_file() else [])
    for order in orders:
        left = past.wanted(order)
        some = f"  ({', '.join(left)})" if left and len(left) < len(order.identities.own) else ""
        print(f"{'to run' if left else 'finished':<9} {order.cell.id}{some}")
        for line in why_again(past, order) if verbose else ():
            print(f"{'':<9} - {escape.line(line)}")
    for row in refused:
        print(f"{'left out':<9} {row.id}: {row.reason}")


def _asked_for(rows: Sequence[Row], orders: Sequence[Order]) -> list[Row]:
    """The row of every order, in the suite's order."""
    found = by_cell(rows)
    return [found[o.cell.id] for o in orders if o.cell.id in found]


def _print_results(rows: Sequence[Row], refused: Sequence[Refusal], summary: Summary, folder: Path) -> None:
    from vitq.reports.tables import results_table

    print(results_table(rows, "plain"))
    reasons = dict.fromkeys(row.reason for row in refused)
    for reason in reasons:
        count = sum(row.reason == reason for row in refused)
        print(f"{count} combination{'s' if count > 1 else ''} left out: {reason}")
    print(f"{len(rows)} cells, {summary.resumed} of them finished before; records in {folder / 'records.jsonl'}")


def _open(suite_name: str, results: Path | None, site: Path | None) -> tuple[Path, list[Row]]:
    """The results folder of a suite and a row for every cell in it."""
    suite = load_suite(suite_name)
    folder = results or load_site(site).results / suite.name
    return folder, read_rows(folder)


def verify(suite_name: str, site: Path | None, sample: int) -> int:
    """`vitq verify`: 0 when every check holds, 2 otherwise; a suite that only counts needs no check."""
    from vitq.benchmarks.run.checks import Request, in_cells_process

    suite, place = load_suite(suite_name), load_site(site)
    if suite.mode == "accounting":
        print(f"suite {suite.name} uses neither data nor weights: there is nothing to check")
        return 0
    good = True
    for entry in suite.tasks:
        with phases(plain_console()) as progress:
            request = Request(
                entry.task, tuple(entry.models), entry.dataset, place.places(), sample,
                suite.calibration.model_dump(), place.threads or suite.threads,
            )  # fmt: skip
            checks = in_cells_process(request, progress)
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.message}")
            good &= check.ok
    return 0 if good else 2


def compare(suite_name: str, results: Path | None, site: Path | None, everything: bool) -> int:
    """`vitq compare`: 0, or 4 when no figure could be compared."""
    from vitq.reports.compare_tables import compare_table
    from vitq.reports.figure import load_figures
    from vitq.reports.verdicts import compare as compare_all

    _, rows = _open(suite_name, results, site)
    comparisons = compare_all(rows, load_figures(), declared_options())
    print(compare_table(comparisons, "plain", everything))
    return 0 if any(c.verdict in ("reproduced", "above", "below", "disputed") for c in comparisons) else 4


def report(suite_name: str, results: Path | None, site: Path | None, out: Path | None) -> int:
    """`vitq report`: writes report.md, CSV tables and pictures; prints where."""
    from vitq.reports.figure import load_figures
    from vitq.reports.report import write_report

    folder, rows = _open(suite_name, results, site)
    out = out or folder / "report"
    check_folder(out, "the report's folder")
    print(write_report(rows, load_figures(), declared_options(), folder, out))
    return 0


def show(wanted: str, suite_name: str, results: Path | None, site: Path | None, layers: bool) -> int:
    """`vitq show`: one row in full, with what decides it part by part, and its per-layer table on request."""
    from vitq.reports.row_view import layers_table, row_view

    folder, rows = _open(suite_name, results, site)
    row = _one(rows, wanted, folder)
    print(row_view(row))
    if layers:
        print(layers_table(row, folder, "plain"))
    return 0


def _one(rows: Sequence[Row], wanted: str, folder: Path) -> Row:
    exact = [r for r in rows if r.cell.id == wanted]
    started = [r for r in rows if any(key.startswith(wanted) for key in r.keys.values())] if len(wanted) > 3 else []
    found = exact or started or [r for r in rows if wanted in r.cell.id]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInputError(f"no record in {folder} is called {wanted!r}; {nearest(wanted, [r.cell.id for r in rows])}")
    some = ", ".join(r.cell.id for r in found[:4])
    raise BadInputError(f"{wanted!r} fits {len(found)} cells ({some}, ...): give a whole id or the start of a key")


def clean(suite_name: str, results: Path | None, site: Path | None, dry_run: bool) -> int:
    """`vitq clean`: drop artifacts, models and outcomes that no row needs; says what and how much."""
    from vitq.benchmarks.run.clean import clean as clean_folder

    suite = load_suite(suite_name)
    folder = results or load_site(site).results / suite.name
    print(clean_folder(folder, dry_run))
    return 0

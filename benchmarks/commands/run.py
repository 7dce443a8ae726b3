"""`vitq run`: plan a suite's cells, run what has no finished record, print the table."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from vitq import escape
from vitq.benchmarks.commands.dry_run import print_dry_run
from vitq.benchmarks.commands.estimates import costs_of, costs_of_missing
from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.commands.results import RECORDS, results_folder
from vitq.benchmarks.plain import say
from vitq.benchmarks.plan.cells import Refusal, expand, limited, scoped
from vitq.benchmarks.plan.estimate import together
from vitq.benchmarks.plan.limits import within_machine
from vitq.benchmarks.plan.orders import Past, plan, summary_of_changes
from vitq.benchmarks.plan.own_suite import Wish, own_suite
from vitq.benchmarks.plan.picking import picker
from vitq.benchmarks.plan.scopes import check_scopes
from vitq.benchmarks.plan.settings import read_settings, with_settings
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.plan.suite import Suite, load_suite
from vitq.benchmarks.run.executing import LOCAL, Executing
from vitq.benchmarks.run.executing import executing as setting_of
from vitq.benchmarks.run.messages import Order
from vitq.benchmarks.run.progress import listener, plain_console
from vitq.benchmarks.run.results_path import check_results
from vitq.benchmarks.run.runner import Summary
from vitq.benchmarks.run.runner import run as run_matrix
from vitq.benchmarks.run.store import FolderGoneError, Store, read_lines
from vitq.benchmarks.runtimes.registry import RUNTIMES
from vitq.errors import BadInputError
from vitq.record import CellKey
from vitq.rows import Row, by_cell
from vitq.words import short

PATIENCE_SECONDS = 5


def chosen(suite_name: str | None, wish: Wish, site: Site, models: Sequence[Path], trust: bool) -> tuple[Suite, Site]:
    """The suite by name or the one that is wished for, and the site; BadInputError for what does not go together."""
    site = site.knowing(*models).trusting(trust)  # before the suite, which may name its models
    if suite_name is None:
        return own_suite(wish, site)
    if wish.words():
        raise BadInputError(f"{wish.words()[0]} is of a run without a suite: leave out {short(suite_name)}, or it")
    suite = load_suite(suite_name)
    methods = list(dict.fromkeys(entry.method for entry in suite.methods))
    return with_settings(suite, read_settings(wish.settings, methods)), site


def run(
    suite: Suite,
    *,
    k: str | None,
    limit: int | None,
    scope: str | None,
    runtimes: Sequence[str] = (),
    verbose: bool,
    device: str,
    executing: Executing,
    results: Path | None,
    site: Site,
    command: str,
    quiet: bool = False,
    printer: Printer,
) -> int:
    """`vitq run`: 0 good, 2 a cell met bad input, 3 a cell failed."""
    dry_run = executing.dry
    executing.check()
    suite = suite.timed_on(_known_runtimes(runtimes))
    settings = [suite.latency, *(entry.latency for entry in suite.tasks)]
    timed = [each.threads for each in settings if each is not None]
    if executing.executor == LOCAL:
        within_machine(suite.name, suite.threads, *timed, here=not dry_run)
    cells, refused = _picked(suite, k, limit, scope)
    check_scopes(cells)
    folder = results_folder(suite, site, results)
    if not dry_run:
        check_results(folder)
    console = plain_console(quiet)
    unready: dict[str, str] | None = {} if dry_run else None
    threads = site.threads or suite.threads
    with setting_of(executing, device=device, threads=threads, trust=site.trust) as setting:
        with _said_if_slow(console):
            orders = plan(
                suite, cells, site, folder, device=device, command=command, threads=setting.threads,
                machine=setting.machine, fetch=not dry_run, unready=unready,
            )  # fmt: skip
        jobs = setting.jobs
        if unready is not None:
            past = Past(read_lines(folder) if (folder / RECORDS).is_file() else [])
            lacking = [cell for cell in cells if cell.id in unready]
            costs = costs_of(orders, past, folder, site)
            costs |= costs_of_missing(suite, lacking, folder, site, device, jobs)
            estimate = together(list(costs.values()), jobs, device, setting.gpus)
            return print_dry_run(
                cells, orders, unready, refused, past, costs, estimate, verbose=verbose, printer=printer
            )
        store = Store(folder)
        past = Past(store.lines())
        for line in summary_of_changes(past, orders):
            console.print(escape.line(line), soft_wrap=True)
        estimate = together(list(costs_of(orders, past, folder, site).values()), jobs, device, setting.gpus)
        started = time.monotonic()
        with listener(console) as told:
            summary = run_matrix(orders, store, setting.executor(orders, folder), told)
    code = _told(summary, store, orders, refused, printer)
    if estimate.cells and not code:
        printer.note(estimate.error(time.monotonic() - started))
    return code


def _told(summary: Summary, store: Store, orders: Sequence[Order], refused: Sequence[Refusal], printer: Printer) -> int:
    """Print how a run ended: its table, then what went wrong; the exit code."""
    folder = store.folder
    try:
        rows = [] if summary.gone else store.rows()
    except FolderGoneError as error:
        summary.gone = str(error)
    if summary.gone:
        say(summary.gone)
        return summary.exit_code
    if store.set_aside:
        say(f"a half-written line of a crash was moved to {folder / 'records.broken'}")
    _print_results(_asked_for(rows, orders), refused, summary, folder, printer)
    for line in summary.bad_inputs:
        say(line)
    return summary.exit_code


def _known_runtimes(names: Sequence[str]) -> Sequence[str]:
    """The names; BadInputError for one that is no runtime, or torch, which is timed anyhow."""
    for name in names:
        RUNTIMES.offer(name)
    return [name for name in names if name != "torch"]


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


def _picked(suite: Suite, k: str | None, limit: int | None, scope: str | None) -> tuple[list[CellKey], list[Refusal]]:
    """The suite's cells as the command line changes them: another subset or scope, and those alone that `k` names."""
    cells, refused = expand(suite)
    if limit is not None:
        cells = [limited(cell, limit) for cell in cells]
    if scope is not None:
        cells = list({cell.id: cell for cell in (scoped(cell, scope) for cell in cells)}.values())
    if k is not None:
        pick = picker(k)
        cells, refused = [c for c in cells if pick(c.id)], [r for r in refused if pick(r.id)]
    if not cells:
        raise BadInputError(f"no cell of suite {suite.name} matches -k {k!r}: see `vitq list cells {suite.name}`")
    return cells, refused


def _asked_for(rows: Sequence[Row], orders: Sequence[Order]) -> list[Row]:
    """The row of every order, in the suite's order."""
    found = by_cell(rows)
    return [found[o.cell.id] for o in orders if o.cell.id in found]


def _print_results(
    rows: Sequence[Row], refused: Sequence[Refusal], summary: Summary, folder: Path, printer: Printer
) -> None:
    from vitq.reports.tables import results_table

    printer.text(results_table(rows, printer.fmt, printer.width))
    reasons = dict.fromkeys(row.reason for row in refused)
    for reason in reasons:
        count = sum(row.reason == reason for row in refused)
        printer.note(f"{count} combination{'s' if count > 1 else ''} left out: {reason}")
    printer.note(f"{len(rows)} cells, {summary.resumed} of them finished before; records in {folder / 'records.jsonl'}")

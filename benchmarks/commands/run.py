"""`vitq run`: plan a suite's cells, run what has no finished record, print the table."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from vitq import escape
from vitq.benchmarks.commands.dry_run import print_dry_run
from vitq.benchmarks.commands.results import results_folder
from vitq.benchmarks.plan.cells import Refusal, expand, limited, scoped
from vitq.benchmarks.plan.limits import within_machine
from vitq.benchmarks.plan.orders import Past, plan, summary_of_changes
from vitq.benchmarks.plan.picking import picker
from vitq.benchmarks.plan.scopes import check_scopes
from vitq.benchmarks.plan.site import load_site
from vitq.benchmarks.plan.suite import Suite, load_suite
from vitq.benchmarks.run.executing import LOCAL, Executing
from vitq.benchmarks.run.executing import executing as setting_of
from vitq.benchmarks.run.messages import Order
from vitq.benchmarks.run.progress import listener, plain_console
from vitq.benchmarks.run.results_path import check_results
from vitq.benchmarks.run.runner import Summary
from vitq.benchmarks.run.runner import run as run_matrix
from vitq.benchmarks.run.store import FolderGoneError, Store
from vitq.benchmarks.runtimes.registry import RUNTIMES
from vitq.errors import BadInputError
from vitq.record import CellKey
from vitq.rows import Row, by_cell

PATIENCE_SECONDS = 5


def run(
    suite_name: str,
    *,
    k: str | None,
    limit: int | None,
    scope: str | None,
    runtimes: Sequence[str] = (),
    dry_run: bool,
    verbose: bool,
    device: str,
    executing: Executing,
    trust: bool,
    results: Path | None,
    site: Path | None,
    command: str,
) -> int:
    """`vitq run`: 0 good, 2 a cell met bad input, 3 a cell failed."""
    executing.check()
    suite, here = load_suite(suite_name).timed_on(_known_runtimes(runtimes)), load_site(site).trusting(trust)
    settings = [suite.latency, *(entry.latency for entry in suite.tasks)]
    timed = [each.threads for each in settings if each is not None]
    if executing.executor == LOCAL:
        within_machine(suite.name, suite.threads, *timed)
    cells, refused = _picked(suite, k, limit, scope)
    check_scopes(cells)
    folder = results_folder(suite, here, results)
    if not dry_run:
        check_results(folder)
    console = plain_console()
    unready: dict[str, str] | None = {} if dry_run else None
    threads = here.threads or suite.threads
    with setting_of(executing, device=device, threads=threads, site=site, trust=here.trust, dry=dry_run) as setting:
        with _said_if_slow(console):
            orders = plan(
                suite, cells, here, folder, device=device, command=command, threads=setting.threads,
                machine=setting.machine, fetch=not dry_run, unready=unready,
            )  # fmt: skip
        if unready is not None:
            return print_dry_run(cells, orders, unready, refused, folder, verbose=verbose)
        store = Store(folder)
        for line in summary_of_changes(Past(store.lines()), orders):
            console.print(escape.line(line), soft_wrap=True)
        with listener(console) as told:
            summary = run_matrix(orders, store, setting.executor(orders, folder), told)
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


def _print_results(rows: Sequence[Row], refused: Sequence[Refusal], summary: Summary, folder: Path) -> None:
    from vitq.reports.tables import results_table

    print(results_table(rows, "plain"))
    reasons = dict.fromkeys(row.reason for row in refused)
    for reason in reasons:
        count = sum(row.reason == reason for row in refused)
        print(f"{count} combination{'s' if count > 1 else ''} left out: {reason}")
    print(f"{len(rows)} cells, {summary.resumed} of them finished before; records in {folder / 'records.jsonl'}")

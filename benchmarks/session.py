"""What the commands do, from arguments to exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vitq.benchmarks.cells import Refusal, expand, picker
from vitq.benchmarks.executors import EXECUTORS
from vitq.benchmarks.order import Order
from vitq.benchmarks.plan import check_device, plan, results_folder
from vitq.benchmarks.progress import listener, phases
from vitq.benchmarks.record import CellKey, Record
from vitq.benchmarks.runner import run as run_matrix
from vitq.benchmarks.site import load_site
from vitq.benchmarks.store import Store, is_finished, read_records
from vitq.benchmarks.suite import Suite, load_suite
from vitq.benchmarks.words import nearest
from vitq.errors import BadInputError


def run(
    suite_name: str,
    *,
    k: str | None,
    limit: int | None,
    dry_run: bool,
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
    cells, refused = _picked(suite, k, limit)
    check_device(device)
    folder = results_folder(suite, place, results)
    orders = plan(suite, cells, place, folder, device=device, command=command, jobs=jobs)
    console = Console(stderr=True)
    if dry_run:
        _dry_run(orders, refused, folder)
        return 0
    store = Store(folder)
    with listener(console) as told:
        summary = run_matrix(orders, store, EXECUTORS[executor](jobs), told)
    if store.set_aside:
        console.print(f"a half-written line of a crash was moved to {folder / 'records.broken'}", soft_wrap=True)
    _print_results(_latest(store.records(), orders), refused, summary.resumed, folder)
    for line in summary.bad_inputs:
        console.print(f"vitq: {line}", highlight=False, markup=False, soft_wrap=True)
    return summary.exit_code


def _picked(suite: Suite, k: str | None, limit: int | None) -> tuple[list[CellKey], list[Refusal]]:
    cells, refused = expand(suite)
    if limit is not None and suite.mode != "accounting":
        cells = [cell.model_copy(update={"limit": limit}) for cell in cells]
    if k:
        pick = picker(k)
        cells, refused = [c for c in cells if pick(c.id)], [r for r in refused if pick(r.id)]
    if not cells:
        raise BadInputError(f"no cell of suite {suite.name} matches -k {k!r}: see `vitq list cells {suite.name}`")
    return cells, refused


def _dry_run(orders: Sequence[Order], refused: Sequence[Refusal], folder: Path) -> None:
    records = read_records(folder) if (folder / "records.jsonl").is_file() else []
    finished = {r.fingerprint for r in records if is_finished(r)}
    for order in orders:
        print(f"{'finished' if order.fingerprint in finished else 'to run':<9} {order.cell.id}")
    for row in refused:
        print(f"{'left out':<9} {row.id}: {row.reason}")


def _latest(records: Sequence[Record], orders: Sequence[Order]) -> list[Record]:
    """The last record of every order, in the suite's order."""
    last = {record.fingerprint: record for record in records}
    return [last[o.fingerprint] for o in orders if o.fingerprint in last]


def _print_results(records: Sequence[Record], refused: Sequence[Refusal], resumed: int, folder: Path) -> None:
    from vitq.reports.tables import results_table

    print(results_table(records, "plain"))
    reasons = dict.fromkeys(row.reason for row in refused)
    for reason in reasons:
        count = sum(row.reason == reason for row in refused)
        print(f"{count} combination{'s' if count > 1 else ''} left out: {reason}")
    print(f"{len(records)} cells, {resumed} of them finished before; records in {folder / 'records.jsonl'}")


def _open(suite_name: str, results: Path | None, site: Path | None) -> tuple[Path, list[Record]]:
    """The results folder of a suite and the last record of every cell in it."""
    folder = results or load_site(site).results / (load_suite(suite_name).name)
    records = read_records(folder)
    return folder, list({record.fingerprint: record for record in records}.values())


def verify(suite_name: str, site: Path | None, sample: int) -> int:
    """`vitq verify`: 0 when every check holds, 2 otherwise; a suite that only counts needs no check."""
    from vitq.benchmarks.checks import Request, in_cells_process

    suite, place = load_suite(suite_name), load_site(site)
    if suite.mode == "accounting":
        print(f"suite {suite.name} uses neither data nor weights: there is nothing to check")
        return 0
    good = True
    for entry in suite.tasks:
        with phases(Console(stderr=True)) as progress:
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
    from vitq.reports.figure import load_figures
    from vitq.reports.tables import compare_table
    from vitq.reports.verdicts import compare as compare_all

    _, records = _open(suite_name, results, site)
    comparisons = compare_all(records, load_figures())
    print(compare_table(comparisons, "plain", everything))
    return 0 if any(c.verdict in ("reproduced", "above", "below", "disputed") for c in comparisons) else 4


def report(suite_name: str, results: Path | None, site: Path | None, out: Path | None) -> int:
    """`vitq report`: writes report.md, CSV tables and pictures; prints where."""
    from vitq.reports.figure import load_figures
    from vitq.reports.report import write_report

    folder, records = _open(suite_name, results, site)
    print(write_report(records, load_figures(), folder, out or folder / "report"))
    return 0


def gate(suite_name: str, baseline: Path, results: Path | None, site: Path | None, tolerance: float) -> int:
    """`vitq gate`: 0 good, 1 regression, 4 nothing was compared."""
    from vitq.benchmarks.gate import Policy, read_baseline
    from vitq.benchmarks.gate import gate as gate_records

    _, current = _open(suite_name, results, site)
    result = gate_records(read_baseline(baseline), current, Policy(tolerance=tolerance))
    print(result.render())
    return result.exit_code


def show(wanted: str, suite_name: str, results: Path | None, site: Path | None, layers: bool) -> int:
    """`vitq show`: one record in full, with its per-layer table on request."""
    from vitq.reports.tables import layers_table, record_view

    folder, records = _open(suite_name, results, site)
    record = _one(records, wanted, folder)
    print(record_view(record))
    if layers:
        file = record.files.get("layers")
        if file is None or not (folder / file).is_file():
            raise BadInputError(f"the record of {record.cell.id} has no per-layer table in {folder}")
        print(layers_table(record, folder, "plain"))
    return 0


def _one(records: Sequence[Record], wanted: str, folder: Path) -> Record:
    exact = [r for r in records if r.cell.id == wanted or r.fingerprint.startswith(wanted)]
    found = exact or [r for r in records if wanted in r.cell.id]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInputError(
            f"no record in {folder} is called {wanted!r}; {nearest(wanted, [r.cell.id for r in records])}"
        )
    some = ", ".join(r.cell.id for r in found[:4])
    raise BadInputError(f"{wanted!r} fits {len(found)} records ({some}, ...): give a whole id or a fingerprint")

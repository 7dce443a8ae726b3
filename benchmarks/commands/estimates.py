"""What a run is expected to take, and the suites there are with what each would take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitq.benchmarks.commands.names import suite_row
from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.estimate import Conditions, Cost, cost, duration, size, together
from vitq.benchmarks.plan.limits import cores
from vitq.benchmarks.plan.orders import Past
from vitq.benchmarks.plan.past_costs import PastCosts, read_costs
from vitq.benchmarks.plan.site import Site, load_site
from vitq.benchmarks.plan.suite import NO_DATA, Latency, Suite, load_suite, shipped_suites
from vitq.benchmarks.run.messages import Order
from vitq.benchmarks.run.provenance import machine_id
from vitq.errors import BadInputError
from vitq.record import CellKey, Name


def costs_of(orders: Sequence[Order], past: Past, folder: Path, site: Site) -> dict[str, Cost]:
    """What is left of each order is expected to take, by the cell's id; nothing for what is finished."""
    known, found = _known(site, folder), {}
    for order in orders:
        left = past.wanted(order)
        if left:
            where = Conditions(known, order.device, order.threads, site.datasets, order.keep_model)
            found[order.cell.id] = cost(order.cell, left, order.latency, where)
    return found


def costs_of_missing(
    suite: Suite, cells: Sequence[CellKey], folder: Path, site: Site, device: str, jobs: int
) -> dict[str, Cost]:
    """What cells whose data or weights are not here would take where they are, by their ids: all they measure."""
    threads = site.threads or suite.threads or max(1, cores() // jobs)
    where = Conditions(_known(site, folder), device, threads, site.datasets, suite.keep == "all")
    return {cell.id: cost(cell, *_asked(suite, cell), where) for cell in cells}


def _known(site: Site, *folders: Path) -> PastCosts:
    """What was measured in these folders, and in those of other suites beside them."""
    try:
        others = sorted(path for path in site.results.iterdir() if path.is_dir())
    except OSError:
        others = []
    return read_costs([*folders, *others], machine_id())


def _asked(suite: Suite, cell: CellKey) -> tuple[list[Name], Latency | None]:
    """Every measurement of a cell of a suite, and how its latency is measured."""
    if cell.dataset == NO_DATA or suite.measure == ["counts"]:
        return ["counts"], None
    names: list[Name] = ["model", *(name for name in suite.measure if name != "latency")]
    timed = suite.latency_of(cell.task, cell.dataset, cell.model) if "latency" in suite.measure else None
    names += ["latency", *(f"latency:{runtime}" for runtime in timed.runtimes)] if timed else []
    return names, timed


def ask_what_to_run(site_file: Path | None, device: str, printer: Printer) -> int:
    """Print the suites with what each would take; BadInputError that asks for one, since running all takes long."""
    site = load_site(site_file)
    known = _known(site)
    rows = []
    for name in shipped_suites():
        suite = load_suite(name)
        where = Conditions(known, device, site.threads or suite.threads or cores(), site.datasets)
        found = together([cost(cell, *_asked(suite, cell), where) for cell in expand(suite)[0]], 1, device)
        row = suite_row(name)
        spent = {"estimated time": duration(found.seconds), "disk": size(found.bytes)}
        rows.append({"suite": name, "cells": row["cells"], **spent, "what": row["what"]})
    printer.table(rows, right=("cells", "estimated time", "disk"))
    raise BadInputError(
        "name what to run: one of these suites, as `vitq run smoke`, a suite file, or --model and --method; nothing "
        "was run"
    )

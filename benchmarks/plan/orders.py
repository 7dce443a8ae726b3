"""Planning: from a suite's cells to orders, with what decides each measurement, and what a folder holds of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vitq.benchmarks.plan import identity
from vitq.benchmarks.plan.added import added_by
from vitq.benchmarks.plan.identity import Surroundings, changed_parts, describe_change
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.plan.suite import Suite
from vitq.benchmarks.run.messages import Order
from vitq.benchmarks.run.provenance import collect
from vitq.benchmarks.run.runner import wanted
from vitq.errors import BadInputError
from vitq.record import CellKey, Identity, Line, Name, in_order, kind_of
from vitq.rows import latest
from vitq.tasks.names import paper_name


def plan(
    suite: Suite,
    cells: Sequence[CellKey],
    site: Site,
    folder: Path,
    *,
    device: str,
    command: str,
    threads: int | None = None,
    machine: str = "",
    fetch: bool = True,
    unready: dict[str, str] | None = None,
) -> list[Order]:
    """An order a cell. Raises BadInputError when a data set, its folder, a list or a weights file is missing.

    `threads` are those of a cell where neither site nor suite says (None: one a core), `machine` the kind of machine
    that latency is measured on (this one where empty). `fetch` says whether weights that were never read may be fetched
    from the hub now, as a run needs them. Where `unready` is given, cells that lack something have no order, and what
    each lacks is put there by its id.
    """
    provenance = collect(command)
    cores = os.cpu_count() or 1
    given = site.threads or suite.threads or threads or cores
    identity.forget()

    def order(cell: CellKey) -> Order:
        timed = suite.latency_of(cell.task, cell.dataset, cell.model)
        timed_threads = (timed.threads if timed else None) or site.threads or suite.threads or cores
        around = Surroundings(site.places(), device, timed, timed_threads, fetch, tuple(suite.measure), machine)
        return Order(
            cell=cell, identities=identity.identify(cell, around), site=site, folder=folder, provenance=provenance,
            latency=timed, latency_threads=timed_threads, threads=given, device=device,
            keep_model=suite.keep == "all", paper_name=paper_name(cell.model),
            added_by=added_by(cell, timed.runtimes if timed else ()),
        )  # fmt: skip

    if unready is None:
        return [order(cell) for cell in cells]
    made = []
    for cell in cells:
        try:
            made.append(order(cell))
        except BadInputError as error:
            unready[cell.id] = str(error)
    return made


class Past:
    """What a results folder holds, as far as a plan asks: what has finished, and what cells were asked for before."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.known = latest(lines)

    def wanted(self, order: Order) -> tuple[Name, ...]:
        """Measurements that this cell still needs."""
        return wanted(order, self.known.finished)

    def changed(self, order: Order) -> dict[Name, tuple[Identity, Identity]]:
        """For measurements that will be made again: what decided the earlier one, and what decides this one."""
        before = self.known.asked.get(order.cell.id)
        found: dict[Name, tuple[Identity, Identity]] = {}
        for name in self.wanted(order) if before else ():
            old = self.known.records.get((kind_of(name), before.keys.get(name, "") if before else ""))
            if old is not None and old.key != order.identities.keys[name]:
                found[name] = (old.identity, order.identities.own[name])
        return found


def why_again(past: Past, order: Order) -> list[str]:
    """A line a kind of measurement that will be made again, with the parts that changed."""
    changes = past.changed(order)
    return [f"{name} again: {describe_change(*changes[name])}" for name in in_order(changes)]


def summary_of_changes(past: Past, orders: Sequence[Order]) -> list[str]:
    """How many cells run again because of which parts: a line a set of parts, the most frequent first."""
    counted: Counter[str] = Counter()
    for order in orders:
        changes = past.changed(order)
        parts = dict.fromkeys(part for pair in changes.values() for part in changed_parts(*pair) if part != "model")
        if parts:
            one = next(pair for pair in changes.values() if set(changed_parts(*pair)) - {"model"})
            counted[describe_change(*one, parts=list(parts)[:6])] += 1
    return [
        f"{n} finished cell{'s' * (n > 1)} will run again, since this changed: {what}"
        for what, n in counted.most_common()
    ]

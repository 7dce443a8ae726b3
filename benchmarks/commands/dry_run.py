"""`vitq run --dry-run`: what would run, what each cell would be compared with, and what is missing; nothing starts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vitq import escape
from vitq.benchmarks.commands.declared_options import declared_options
from vitq.benchmarks.plan.cells import Refusal
from vitq.benchmarks.plan.orders import Past, why_again
from vitq.benchmarks.run.messages import Order
from vitq.benchmarks.run.store import read_lines
from vitq.record import CellKey
from vitq.reports.conditions import measured_by
from vitq.reports.figure import ACCURACY, load_figures
from vitq.tasks.names import paper_name


def print_dry_run(
    cells: Sequence[CellKey],
    orders: Sequence[Order],
    unready: Mapping[str, str],
    refused: Sequence[Refusal],
    folder: Path,
    *,
    verbose: bool,
) -> int:
    """A line a cell in the suite's order; `unready` are those that lack something here. 0, or 2 where some do."""
    past = Past(read_lines(folder) if (folder / "records.jsonl").is_file() else [])
    planned = {order.cell.id: order for order in orders}
    figures = _Figures()
    for cell in cells:
        order = planned.get(cell.id)
        state, more = ("missing", "") if order is None else _state(past, order)
        print(f"{state:<9} {cell.id}{more}{figures.of(cell)}")
        for line in why_again(past, order) if verbose and order else ():
            print(f"{'':<9} - {escape.line(line)}")
    for row in refused:
        print(f"{'left out':<9} {row.id}: {row.reason}")
    reasons = list(dict.fromkeys(unready.values()))
    for reason in reasons:
        count = sum(each == reason for each in unready.values())
        print(f"vitq: {count} of {len(cells)} cells cannot run here: {escape.line(reason)}", file=sys.stderr)
    return 2 if reasons else 0


def _state(past: Past, order: Order) -> tuple[str, str]:
    left = past.wanted(order)
    some = f"  ({', '.join(left)})" if left and len(left) < len(order.identities.own) else ""
    return "to run" if left else "finished", some


class _Figures:
    """The accuracies that papers print, by the cells that measure them."""

    def __init__(self) -> None:
        self.known = [figure for figure in load_figures() if figure.metric in ACCURACY and figure.evidence != "re-run"]
        self.options = declared_options()

    def of(self, cell: CellKey) -> str:
        """`  paper: box_ap 36.1, mask_ap 36.0`, or nothing where no source reports the cell."""
        name = str(paper_name(cell.model) or cell.model)
        found = [f for f in self.known if f.dataset == cell.dataset and measured_by(f, cell, name, self.options)]
        printed = dict.fromkeys(f"{figure.metric} {figure.printed}" for figure in found)
        return f"  paper: {', '.join(printed)}" if printed else ""

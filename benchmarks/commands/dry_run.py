"""`vitq run --dry-run`: what would run, what each cell would be compared with, and what is missing; nothing starts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from vitq import escape
from vitq.benchmarks.commands.declared_options import declared_options
from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.plan.cells import Refusal
from vitq.benchmarks.plan.estimate import Cost, Estimate
from vitq.benchmarks.plan.orders import Past, why_again
from vitq.benchmarks.run.messages import Order
from vitq.record import CellKey
from vitq.reports.conditions import measured_by
from vitq.reports.figure import ACCURACY, load_figures
from vitq.tasks.names import paper_name

PART = "part"
"""In a row: some of its measurements are there. No column, since `to measure` says it."""


def print_dry_run(
    cells: Sequence[CellKey],
    orders: Sequence[Order],
    unready: Mapping[str, str],
    refused: Sequence[Refusal],
    past: Past,
    costs: Mapping[str, Cost],
    estimate: Estimate,
    *,
    verbose: bool,
    printer: Printer,
) -> int:
    """A line a cell in the suite's order; `unready` are those that lack something here. 0, or 2 where some do.

    `costs` are by id, those of unready cells what they would take where nothing is missing; `estimate` is the sum.
    """
    planned = {order.cell.id: order for order in orders}
    figures = _Figures()
    rows = [_row(cell, planned.get(cell.id), past, costs, figures, verbose) for cell in cells]
    rows += [{"state": "left out", "cell": each.id, "reason": each.reason} for each in refused]
    for row in rows:
        row["reason"] = row.get("reason") or unready.get(row["cell"], "")
    if printer.fmt == "plain":
        printer.text("\n".join(map(_line, rows)))
    else:
        printer.table([{k: v for k, v in row.items() if k != PART} for row in rows], right=("seconds", "MB"))
    printer.note(estimate.text)
    return _missing(unready, len(cells))


def _missing(unready: Mapping[str, str], cells: int) -> int:
    """A line a reason why cells cannot run."""
    reasons = list(dict.fromkeys(unready.values()))
    for reason in reasons:
        count = sum(each == reason for each in unready.values())
        print(f"vitq: {count} of {cells} cells cannot run here: {escape.line(reason)}", file=sys.stderr)
    return 2 if reasons else 0


def _row(
    cell: CellKey, order: Order | None, past: Past, costs: Mapping[str, Cost], figures: _Figures, verbose: bool
) -> dict[str, str]:
    left = past.wanted(order) if order is not None else ()
    found = costs.get(cell.id)
    cost = found if left or order is None else None
    return {
        "state": "missing" if order is None else "to run" if left else "finished",
        "cell": cell.id,
        "to measure": ", ".join(left),
        PART: "yes" if order is not None and left and len(left) < len(order.identities.own) else "",
        "seconds": f"{cost.total:.3g}" if cost else "",
        "MB": f"{cost.bytes / 1e6:.3g}" if cost else "",
        "estimated by": cost.by if cost else "",
        "paper": figures.of(cell),
        "reason": "\n".join(why_again(past, order)) if verbose and order is not None else "",
    }


def _line(row: Mapping[str, str]) -> str:
    """A row as a line, below it what changed; what a missing cell lacks is counted on standard error."""
    if row["state"] == "left out":
        return f"{row['state']:<9} {row['cell']}: {row['reason']}"
    some = f"  ({row['to measure']})" if row[PART] else ""
    paper = f"  paper: {row['paper']}" if row["paper"] else ""
    why = row["reason"].split("\n") if row["reason"] and row["state"] != "missing" else []
    return "\n".join([f"{row['state']:<9} {row['cell']}{some}{paper}", *(f"{'':<9} - {escape.line(w)}" for w in why)])


class _Figures:
    """The accuracies that papers print, by the cells that measure them."""

    def __init__(self) -> None:
        self.known = [figure for figure in load_figures() if figure.metric in ACCURACY and figure.evidence != "re-run"]
        self.options = declared_options()

    def of(self, cell: CellKey) -> str:
        """`box_ap 36.1, mask_ap 36.0`, or nothing where no source reports the cell."""
        name = str(paper_name(cell.model) or cell.model)
        found = [f for f in self.known if f.dataset == cell.dataset and measured_by(f, cell, name, self.options)]
        return ", ".join(dict.fromkeys(f"{figure.metric} {figure.printed}" for figure in found))

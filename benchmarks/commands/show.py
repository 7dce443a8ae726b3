"""`vitq show`: one cell's row in full."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.run.store import read_rows
from vitq.errors import BadInputError
from vitq.reports.row_view import layers_table, row_view
from vitq.rows import Row
from vitq.words import nearest


def show(wanted: str, folder: Path, layers: bool, printer: Printer) -> int:
    """`vitq show`: one row in full, with what decides it part by part, and its per-layer table on request.

    A format for machines has one table: that of the layers alone, where it is asked for.
    """
    row = _one(read_rows(folder), wanted, folder)
    if not (layers and printer.for_machines):
        printer.text(row_view(row, printer.fmt, printer.width))
    if layers and not printer.for_machines:
        printer.note()
    if layers:
        printer.text(layers_table(row, folder, printer.fmt, printer.width))
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

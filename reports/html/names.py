"""Short names of cells, and the anchors of what the page links to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from vitq.escape import line
from vitq.metrics import main_metrics
from vitq.reports.tables import marked
from vitq.rows import Row


def anchor(record: Row) -> str:
    """The id of a record in the page, the same in every report that has the cell."""
    return f"record-{hashlib.sha256(record.cell.id.encode()).hexdigest()[:12]}"


def run_name(record: Row) -> str:
    """`repq_vit[channel] W4A4`; FP32 is FP32."""
    cell = record.cell
    if cell.method == "fp32":
        return "FP32"
    scope = "" if cell.scope == "model" else f", {cell.scope}"
    return line(f"{cell.method}{f'[{cell.variant}]' if cell.variant else ''} {cell.bits}{scope}")


def method_name(record: Row) -> str:
    """The method with the mark of its fidelity."""
    return line(marked(record))


def data_name(record: Row) -> str:
    """The data set, with the number of images where it is a subset."""
    cell = record.cell
    return line(cell.dataset + (f" (limit {cell.limit})" if cell.limit else ""))


def first_metric(record: Row) -> str | None:
    """The metric that a row is sorted by: its task's first, else any; None where none was measured."""
    names = [*main_metrics(record.cell.task), *sorted(record.metrics)]
    return next((name for name in names if name in record.metrics), None)


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 cell`, `2 cells`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in one line, the rest counted."""
    shown = [line(name) for name in names[:most]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")

"""Rows to text: Markdown, CSV, or plain columns for a terminal; what a cell holds is escaped for each."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from tabulate import tabulate

from vitq import escape

Format = Literal["markdown", "csv", "plain"]
NOTHING = "Nothing to show."


def render(rows: Sequence[Mapping[str, Any]], fmt: Format, right: Collection[str] = ()) -> str:
    """A table with the keys of all rows as columns, in order of first use; empty columns are left out but in CSV.

    `right` names the columns set to the right. ValueError for an unknown format.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if fmt == "csv":
        return _csv(rows, columns)
    if fmt not in ("markdown", "plain"):
        raise ValueError(f"no table format is called {fmt!r}; known: markdown, csv, plain")
    columns = [c for c in columns if any(row.get(c) for row in rows)]
    if not columns:
        return NOTHING
    cells = [[_text(row.get(c, ""), fmt) for c in columns] for row in rows]
    align = ["right" if c in right else "left" for c in columns]
    style = "pipe" if fmt == "markdown" else "simple"
    return tabulate(
        cells, headers=[_text(c, fmt) for c in columns], tablefmt=style, disable_numparse=True, colalign=align
    )


def _text(value: Any, fmt: Format) -> str:
    return escape.markdown(str(value)) if fmt == "markdown" else escape.line(str(value))


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writerow({column: escape.csv_cell(column) for column in columns})
    writer.writerows({name: escape.csv_cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()

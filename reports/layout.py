"""Rows to text: Markdown, CSV, JSON, or plain columns for a terminal; what a cell holds is escaped for each."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from tabulate import tabulate

from vitq import escape

Format = Literal["plain", "markdown", "md", "csv", "json"]
"""`md` is Markdown's short name, as the command line has it."""
FORMATS = ("plain", "md", "csv", "json")
"""What `--format` may say."""
FOR_MACHINES = ("csv", "json")
"""Formats that hold every column of every row, as numbers where they are numbers, and nothing beside the table."""
NOTHING = "Nothing to show."
NARROWEST = 16
"""Characters below which no column is wrapped; a terminal too narrow for that gets a block a row instead."""
Rows = Sequence[Mapping[str, Any]]


def render(rows: Rows, fmt: Format, right: Collection[str] = (), width: int | None = None) -> str:
    """A table with the keys of all rows as columns, in order of first use; those for reading leave out empty columns.

    `right` names the columns set to the right; a plain table is fitted to `width` characters where that is given. CSV
    ends with a newline. JSON is a list of objects, one a row, each with every column (null where a row has none).
    ValueError for an unknown format.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if fmt == "csv":
        return _csv(rows, columns)
    if fmt == "json":
        return _json(rows, columns)
    if fmt not in ("markdown", "md", "plain"):
        raise ValueError(f"no table format is called {fmt!r}; known: {', '.join(FORMATS)}")
    columns = [c for c in columns if any(row.get(c) for row in rows)]
    if not columns:
        return NOTHING
    shown = escape.line if fmt == "plain" else escape.markdown
    heads = [shown(c) for c in columns]
    cells = [[shown(str(row.get(c, ""))) for c in columns] for row in rows]
    align = ["right" if c in right else "left" for c in columns]
    return _plain(heads, cells, align, width) if fmt == "plain" else _grid(heads, cells, align, "pipe")


def _grid(
    heads: list[str], cells: list[list[str]], align: list[str], style: str, most: Sequence[int] | None = None
) -> str:
    return tabulate(
        cells, headers=heads, tablefmt=style, disable_numparse=True, colalign=align, maxcolwidths=most,
        maxheadercolwidths=most,
    )  # fmt: skip


def _plain(heads: list[str], cells: list[list[str]], align: list[str], width: int | None) -> str:
    """Columns as wide as they are, or wrapped to fit; a block a row where they cannot."""
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    room = None if width is None else width - 2 * (len(heads) - 1)
    if room is None or sum(widths) <= room:
        return _grid(heads, cells, align, "simple")
    most = max((m for m in range(NARROWEST, max(widths)) if sum(min(w, m) for w in widths) <= room), default=0)
    if most:
        return _grid(heads, cells, align, "simple", [min(w, most) for w in widths])
    return "\n\n".join(_block(heads, row, width or 0) for row in cells)


def _block(heads: list[str], row: list[str], width: int) -> str:
    """A line a column, continued below itself; a word that is longer than a line, as an id, stays whole."""
    longest = max(map(len, heads))
    fill = {"width": max(width - longest - 2, NARROWEST), "break_long_words": False, "break_on_hyphens": False}
    lines = []
    for head, text in zip(heads, row, strict=True):
        for number, part in enumerate(textwrap.wrap(text, **fill)):  # type: ignore[arg-type]
            lines.append(f"{'' if number else head:<{longest}}  {part}")
    return "\n".join(lines)


def _csv(rows: Rows, columns: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writerow({column: escape.csv_cell(column) for column in columns})
    writer.writerows({name: escape.csv_cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _json(rows: Rows, columns: Sequence[str]) -> str:
    """A row a line; characters beyond ASCII are escaped, so that no terminal obeys them."""
    lines = [json.dumps({c: _value(row.get(c)) for c in columns}, allow_nan=False) for row in rows]
    return "[\n" + ",\n".join(lines) + "\n]" if lines else "[]"


def _value(value: Any) -> Any:
    """What JSON has: numbers that are none become null, what is no text, number or flag is written as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)

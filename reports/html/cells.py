"""The page's tables as data: columns, and rows of cells that sort by a number and show a text.

A cell is a text, or `{"v": what it sorts by, "t": what it shows, "r": the id it links to}`; parts that say nothing are
left out. Rows go into the page packed, and become a table when a reader comes near.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from vitq.escape import line
from vitq.reports.verdicts import VERDICTS

Cell: TypeAlias = "str | dict[str, Any]"


class Column(NamedTuple):
    """A column: heading, whether it holds numbers, is filtered by, and holds sentences; and words on what it is."""

    title: str
    number: bool = False
    filter: bool = False
    about: str = ""
    wide: bool = False

    @property
    def kind(self) -> str:
        """How the page sets it."""
        return "number" if self.number else "wide" if self.wide else ""


class Table(NamedTuple):
    """A table of the page, the first column naming a row; `file` is the CSV beside the page that has it too."""

    id: str
    caption: str
    columns: list[Column]
    rows: list[list[Cell]]
    file: str = ""
    note: str = ""

    def choices(self, column: int) -> list[tuple[str, int]]:
        """What a column can be filtered by, with the number of rows; a cell of several words counts for each."""
        found: dict[str, int] = {}
        for row in self.rows:
            cell = row[column]
            for word in (cell if isinstance(cell, str) else cell.get("t", "")).split(" · "):
                if word:
                    found[word] = found.get(word, 0) + 1
        return sorted(found.items(), key=lambda each: (place_of(each[0]), each[0]))

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script makes the table of."""
        return {"kinds": [column.kind for column in self.columns], "rows": self.rows}


def number(value: float | None, text: str = "", **more: Any) -> Cell:
    """A cell that sorts by a number and shows a text; an empty one where there is none.

    What JSON has no number for (infinities) is sorted below all others.
    """
    if value is None:
        return ""
    return {"v": value if math.isfinite(value) else -1e308, "t": text, **more}


def told(
    id: str,
    caption: str,
    rows: Sequence[Mapping[str, str]],
    right: Sequence[str],
    filters: Sequence[str] = (),
    note: str = "",
) -> Table | None:
    """A table of rows that are words already; those of `right` are sorted by the number they begin with."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [Column(line(name), name in right, name in filters) for name in names]
    cells = [[_word(row.get(name, ""), name in right) for name in names] for row in rows]
    return Table(id, caption, columns, cells, note=note) if rows else None


def _word(text: str, right: bool) -> Cell:
    shown, begins = line(text), re.match(r"[-+]?\d[\d,]*\.?\d*", text) if right else None
    return number(float(begins.group().replace(",", "")), shown) if begins else shown


def place_of(verdict: str) -> int:
    """Where a verdict stands among all; other words come after them."""
    return next((place for place, known in enumerate(VERDICTS) if known == verdict), len(VERDICTS))

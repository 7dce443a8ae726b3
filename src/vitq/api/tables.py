"""Tables that a notebook, a terminal and a file can show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from vitq.errors import BadInputError
from vitq.words import nearest

Format = Literal["plain", "md", "csv", "json"]
FORMATS = ("plain", "md", "csv", "json")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table(Sequence[Row]):
    """Rows by column name. Printing it gives plain columns, a notebook shows Markdown.

    It is a sequence of mappings: `table[0]["kind"]`, `len(table)`, `pandas.DataFrame(table.rows)`.

    Attributes:
        rows: each a mapping of column to value, numbers as numbers.
        right: the columns that are set to the right.
        places: how many digits after the point a column's numbers show where a reader reads them.
    """

    rows: tuple[Row, ...]
    right: tuple[str, ...] = ()
    places: Mapping[str, int] | None = None

    def render(self, format: Format = "plain") -> str:
        """The table as text: `plain` columns, `md` (Markdown), `csv` or `json`; the last two hold numbers as they are.

        BadInputError for another format.
        """
        from vitq.reports.layout import render

        if format not in FORMATS:
            raise BadInputError(f"format is {format!r}; {nearest(str(format), FORMATS)}")
        rows = self.rows if format in ("csv", "json") else [self._shown(row) for row in self.rows]
        return render(rows, format, right=self.right)

    def _shown(self, row: Row) -> dict[str, str]:
        return {column: self._text(column, value) for column, value in row.items()}

    def _text(self, column: str, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return str(value)
        places = (self.places or {}).get(column)
        return f"{value:g}" if places is None and isinstance(value, float) else f"{value:,.{places or 0}f}"

    def __str__(self) -> str:
        return self.render()

    def _repr_markdown_(self) -> str:
        return self.render("md")

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self.rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

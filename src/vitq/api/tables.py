"""Tables that a notebook, a terminal and a file can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Format = Literal["plain", "md", "csv", "json"]


@dataclass(frozen=True)
class Table(Sequence[Mapping[str, Any]]):
    """Rows by column name; printing one shows plain columns, a notebook shows Markdown.

    Attributes:
        rows: each a mapping of column to value, numbers as numbers.
        right: the columns that are set to the right.
    """

    rows: tuple[Mapping[str, Any], ...]
    right: tuple[str, ...] = ()

    def render(self, format: Format = "plain") -> str:
        """The table as text: `plain` columns, `md` (Markdown), `csv` or `json`."""
        raise NotImplementedError

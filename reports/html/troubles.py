"""Failures and warnings, the same reason of many cells said once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vitq.escape import line
from vitq.reports.html.names import anchor
from vitq.rows import Row

KINDS = ("failed", "oom", "unsupported", "warning", "picture")
WORDS = {
    "failed": "Failed",
    "oom": "Out of memory",
    "unsupported": "Not supported",
    "warning": "Warning",
    "picture": "Picture not drawn",
}


class Trouble(NamedTuple):
    """What went wrong, and the cells that it befell as (anchor, id)."""

    kind: str
    reason: str
    cells: list[tuple[str, str]]

    @property
    def words(self) -> str:
        """The kind as it is shown."""
        return WORDS[self.kind]


def troubles(records: Sequence[Row], problems: Sequence[str]) -> list[Trouble]:
    """Failures first, then what is not supported, warnings, and pictures; within a kind the most frequent first."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for record in records:
        at = (anchor(record), line(record.cell.id))
        if record.status != "done":
            first = next(iter((record.error or "no reason given").splitlines()), "")
            found.setdefault((record.status, line(first)), []).append(at)
        for text in record.warnings:
            found.setdefault(("warning", line(text)), []).append(at)
    for problem in problems:
        found.setdefault(("picture", line(problem)), [])
    every = [Trouble(kind, reason, cells) for (kind, reason), cells in found.items()]
    return sorted(every, key=lambda t: (KINDS.index(t.kind), -len(t.cells), t.reason))

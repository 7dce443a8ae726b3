"""Every record in the page: its facts and its JSON, packed in parts of which one is read when a record is opened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from vitq.escape import line
from vitq.reports.html.names import anchor
from vitq.reports.html.packed import packed_json
from vitq.reports.html.tables import Drops
from vitq.reports.row_view import facts
from vitq.rows import Row

PART = 64
"""Records in one part: what is unpacked at once when a reader opens one of them."""
LONGEST = 12
"""Entries of a list that are shown, and numbers of one; samples and curves are in the results folder."""

DIGITS = 7
"""Significant digits of a number that is no integer."""
IN_JSON = ("identity ", "key ")
"""Facts that are long and read in the JSON alone."""


class Stub(NamedTuple):
    """A record as the page lists it: the anchor, the cell's id, and its status."""

    id: str
    cell: str
    status: str


def stubs(records: Sequence[Row]) -> list[Stub]:
    """A line a record, in their order."""
    return [Stub(anchor(record), line(record.cell.id), record.status) for record in records]


def parts(records: Sequence[Row], drops: Drops) -> list[str]:
    """The records' content, packed."""
    return [packed_json([_content(r, drops) for r in records[at : at + PART]]) for at in range(0, len(records), PART)]


def _content(record: Row, drops: Drops) -> dict[str, Any]:
    """Facts as pairs of words, and the record as JSON without what it leaves at its default."""
    whole = record.model_dump(mode="json", exclude_defaults=True, exclude={"folder"})
    paired = {metric: drops.get((record.cell.id, metric)) for metric in record.metrics}
    told = [[line(name), line(text)] for name, text in facts(record, paired).items() if not name.startswith(IN_JSON)]
    return {"facts": told, "json": shortened(whole)}


def shortened(value: Any) -> Any:
    """The same value, long lists cut and said so, numbers rounded, text made visible, what JSON lacks as words."""
    if isinstance(value, dict):
        return {line(str(key)): shortened(each) for key, each in value.items()}
    if isinstance(value, list) and len(value) > LONGEST and all(isinstance(each, (int, float)) for each in value):
        return f"{len(value)} numbers, in records.jsonl"
    if isinstance(value, list):
        shown = [shortened(each) for each in value[:LONGEST]]
        return shown + ([f"... {len(value) - LONGEST} more, in records.jsonl"] if len(value) > LONGEST else [])
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)
    return line(value) if isinstance(value, str) else value

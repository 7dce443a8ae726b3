"""Good lines of records.jsonl, for tests that damage them."""

from __future__ import annotations

from rows import lines


def valid_record_lines() -> list[bytes]:
    """One line of every kind that a finished cell leaves."""
    return [line.model_dump_json().encode() for line in lines()]

"""The gate as Markdown, for a GitHub job summary."""

from __future__ import annotations

from vitq.benchmarks.gate.policy import ACCEPTED, GateRow
from vitq.benchmarks.gate.result import GOOD, GateResult
from vitq.escape import markdown

_MOST_ROWS = 1000
"""GitHub refuses a summary of more than 1 MiB; a thousand rows of a suite's cells are a third of it."""


def job_summary(result: GateResult, suite: str) -> str:
    """A heading with the verdict, the table of what differs, and the lines below it."""
    accepting = any(row.verdict == ACCEPTED for row in result.rows)
    ended = ("accepted" if accepting else "passed") if result.exit_code == GOOD else "failed"
    blocks = [f"## vitq gate {markdown(suite)}: {ended}", markdown(result.summary)]
    if result.shown:
        blocks.append(_table(result.shown[:_MOST_ROWS]))
    if len(result.shown) > _MOST_ROWS:
        blocks.append(f"{len(result.shown) - _MOST_ROWS} rows more are in the log.")
    if result.lines:
        blocks.append("\n".join(f"- {markdown(line)}" for line in result.lines))
    return "\n\n".join(blocks) + "\n"


def _table(rows: list[GateRow]) -> str:
    head = ["| " + " | ".join(GateRow._fields) + " |", "|" + "---|" * len(GateRow._fields)]
    return "\n".join([*head, *("| " + " | ".join(markdown(text) for text in row) + " |" for row in rows)])

"""The gate as GitHub shows it beside a change: workflow commands, an error a cell that fails.

    ::error title=vitq gate smoke%3A minmax/...::top1 worse, 94.000 -> 90.000 (allowed ±0.000)

GitHub shows ten errors of a step at most, so that the last one counts the cells that it leaves out.
"""

from __future__ import annotations

from collections import defaultdict

from vitq.benchmarks.gate.junit import told_of
from vitq.benchmarks.gate.policy import GateRow
from vitq.benchmarks.gate.result import GOOD, NOTHING_COMPARED, GateResult
from vitq.escape import visible

MOST = 9
_IN_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_IN_PROPERTY = {**_IN_DATA, ":": "%3A", ",": "%2C"}


def annotated(result: GateResult, suite: str, file: str = "") -> list[str]:
    """A workflow command a line; `file`, relative to the repository, is what asked for the cells."""
    cells: dict[str, list[GateRow]] = defaultdict(list)
    for row in result.regressions:
        cells[row.cell].append(row)
    lines = [
        _command("error", f"vitq gate {suite}: {cell}", file, [told_of(row) for row in rows])
        for cell, rows in list(cells.items())[:MOST]
    ]
    if len(cells) > MOST:
        lines.append(_command("error", f"vitq gate {suite}", file, [f"{len(cells) - MOST} cells more fail"]))
    level = "notice" if result.exit_code == GOOD else "error"
    if result.exit_code in (GOOD, NOTHING_COMPARED):
        lines.append(_command(level, f"vitq gate {suite}", file, [result.summary]))
    return lines


def _command(level: str, title: str, file: str, told: list[str]) -> str:
    named = {"file": file, "title": title}
    properties = ",".join(f"{name}={_escaped(text, _IN_PROPERTY)}" for name, text in named.items() if text)
    return f"::{level} {properties}::{_escaped(chr(10).join(visible(each) for each in told), _IN_DATA)}"


def _escaped(text: str, escapes: dict[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in visible(text, keep="\n"))

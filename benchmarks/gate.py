"""Compare a run with an earlier one and decide whether anything regressed; what cannot be judged fails.

Matching: the latest record of each cell id in both runs; a baseline cell whose id is gone is looked for by its
fingerprint, which leaves labels out. A cell that is gone or failed now is a regression. Cells that used other data,
weights or options are not comparable, and fail too. A gain in accuracy that nobody explained is as much a change as a
loss, so both fail; `judge` has the rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from vitq.benchmarks.judge import GateRow, Policy, judge
from vitq.benchmarks.record import Record
from vitq.benchmarks.store import read_records
from vitq.errors import BadInputError

__all__ = ["GateResult", "GateRow", "Policy", "gate", "read_baseline"]

GOOD, REGRESSION, NOTHING_COMPARED = 0, 1, 4
FAILING = {"worse", "better", "changed", "missing", "failed", "not-comparable", "not-a-number", "slower"}
_UNJUDGED = {"missing", "not-comparable", "not-compared"}


@dataclass(frozen=True)
class GateResult:
    """All judgements; `compared` is the number of cells whose results were compared."""

    rows: list[GateRow] = field(default_factory=list)
    compared: int = 0

    @property
    def regressions(self) -> list[GateRow]:
        """The rows that fail the gate."""
        return [row for row in self.rows if row.verdict in FAILING]

    @property
    def exit_code(self) -> int:
        """0 good, 1 regression, 4 nothing was compared."""
        if not self.compared:
            return NOTHING_COMPARED
        return REGRESSION if self.regressions else GOOD

    def render(self) -> str:
        """A table of what is not the same, what could not be compared and why, and one line that sums it up."""
        shown = [row for row in self.rows if row.verdict not in ("same", "not-compared")]
        shown.sort(key=lambda row: row.verdict not in FAILING)
        blocks = [tabulate(shown, headers=GateRow._fields, tablefmt="simple", disable_numparse=True)] if shown else []
        silent = Counter(
            f"{row.quantity} not compared: {row.note}" for row in self.rows if row.verdict == "not-compared"
        )
        blocks += ["\n".join(f"{text} ({count}x)" for text, count in silent.items())] if silent else []
        same = sum(row.verdict == "same" for row in self.rows)
        verdict = {GOOD: "good", REGRESSION: "regression", NOTHING_COMPARED: "nothing was compared"}[self.exit_code]
        blocks.append(
            f"{verdict}: {self.compared} cells compared, {same} quantities the same, {len(self.regressions)} failing"
        )
        return "\n".join(line.rstrip() for line in "\n\n".join(blocks).split("\n"))


def read_baseline(path: Path) -> list[Record]:
    """The records of an earlier run, a file or its folder.

    Raises BadInputError where there are none, where a line is no record, and where the last line was cut short: a
    baseline that lost a cell would let that cell pass.
    """
    file = path / "records.jsonl" if path.is_dir() else path
    records = read_records(path)
    if not records:
        raise BadInputError(f"the baseline {file} holds no records: give the results of a finished run")
    with file.open("rb") as stream:
        stream.seek(-1, 2)
        if stream.read() != b"\n":
            raise BadInputError(f"the last line of the baseline {file} is cut short: copy the file again")
    return records


def gate(baseline: Sequence[Record], current: Sequence[Record], policy: Policy | None = None) -> GateResult:
    """Judge every cell of the baseline, and name the cells that are new."""
    before, after = _latest(baseline), _latest(current)
    by_mark = {record.fingerprint: record for record in after.values()}
    rows: list[GateRow] = []
    matched: set[str] = set()
    compared = 0
    for cell, old in before.items():
        new = after.get(cell) or by_mark.get(old.fingerprint)
        if new is not None:
            matched.add(new.cell.id)
        judged = _judge_cell(old, new, policy or Policy())
        rows += judged
        compared += any(row.verdict not in _UNJUDGED for row in judged)
    rows += [GateRow(c, "cell", "", r.status, "", "new") for c, r in after.items() if c not in matched]
    return GateResult(rows, compared)


def _latest(records: Sequence[Record]) -> dict[str, Record]:
    return {record.cell.id: record for record in records}


def _judge_cell(old: Record, new: Record | None, policy: Policy) -> list[GateRow]:
    row = GateRow(old.cell.id, "cell", old.status, "absent" if new is None else new.status, "", "not-compared")
    if old.status != "done":
        return [row._replace(note=f"{old.status} in the baseline")]
    if new is None:
        return [row._replace(verdict="missing")]
    if new.status != "done":
        return [row._replace(verdict="failed", note=(new.error or "").partition("\n")[0])]
    differing = [name for name, value in _inputs(old).items() if _inputs(new).get(name) != value]
    if differing:
        return [row._replace(verdict="not-comparable", note=f"other {', '.join(differing)}")]
    # A run resumes: without a new version the very record of the baseline is found again, and that proves nothing.
    again = [row._replace(quantity="a new run", note="the record is the baseline's own")] if old == new else []
    return [*judge(old, new, policy), *again]


def _inputs(record: Record) -> dict[str, Any]:
    """What decides a result besides code and machine; labels are left out."""
    cell = record.cell.model_dump(exclude={"id", "variant"})
    return cell | {"weights": record.weights_sha256, "data": record.data_sha256}

"""What a gate found: its rows, how much was compared, the exit code and the words for both."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tabulate import tabulate

from vitq.benchmarks.gate.policy import ACCEPTED, FAILING, QUIET, UNJUDGED, GateRow
from vitq.escape import visible

GOOD, REGRESSION, NOTHING_COMPARED = 0, 1, 4


class Samples(NamedTuple):
    """Samples of the compared cells, and how many of them were compared one by one."""

    total: int = 0
    paired: int = 0


@dataclass(frozen=True)
class GateResult:
    """All judgements.

    Attributes:
        compared: cells whose results were compared, of `cells` in the baseline.
        changes: where cells were made elsewhere, and which parts of the identity changed, a line each.
        costs: what evaluations cost, a line a form.
        at_least: see `Policy`.
        differing: baseline cells that fail, or whose FP32 model does.
        not_judged: of the failing cells those of which nothing could be compared.
        accepted: what was accepted with a reason, earlier and now, a line each.
    """

    rows: list[GateRow] = field(default_factory=list)
    compared: int = 0
    cells: int = 0
    samples: Samples = field(default_factory=Samples)
    changes: list[str] = field(default_factory=list)
    costs: list[str] = field(default_factory=list)
    at_least: int | Literal["all"] | None = None
    differing: tuple[str, ...] = ()
    not_judged: int = 0
    accepted: list[str] = field(default_factory=list)

    @property
    def regressions(self) -> list[GateRow]:
        """The rows that fail the gate."""
        return [row for row in self.rows if row.verdict in FAILING]

    @property
    def unusable(self) -> list[GateRow]:
        """Baseline cells that failed when the baseline was made."""
        return [row for row in self.rows if row.verdict == "unusable"]

    @property
    def too_little(self) -> str:
        """Why what was compared is too little to call anything good; empty where it is enough."""
        if not self.compared:
            return "nothing was compared"
        if self.at_least == "all" and self.compared < self.cells:
            return f"too little was compared: all {self.cells} cells were asked for"
        if isinstance(self.at_least, int) and self.compared < self.at_least:
            return f"too little was compared: {self.at_least} cells were asked for"
        if self.at_least is None and len(self.unusable) > self.compared:
            return "too little was compared: most cells of the baseline failed"
        return ""

    @property
    def exit_code(self) -> int:
        """0 good, 1 regression, 4 nothing or too little was compared; what regressed for certain is told first."""
        certain = [row for row in self.regressions if row.quantity != "cell" or row.verdict not in UNJUDGED]
        if certain:
            return REGRESSION
        if self.too_little:
            return NOTHING_COMPARED
        return REGRESSION if self.regressions else GOOD

    @property
    def shown(self) -> list[GateRow]:
        """The rows of the table: what differs, failing rows first."""
        rows = [row for row in self.rows if row.verdict not in QUIET]
        return sorted(rows, key=lambda row: row.verdict not in FAILING)

    @property
    def lines(self) -> list[str]:
        """What the table does not say: changes, costs, and what could not be compared, counted or named."""
        silent = Counter(
            f"{row.quantity} not compared: {row.note}" for row in self.rows if row.verdict in ("not-compared", "own")
        )
        unusable = [f"{row.cell} was not compared: {row.note}" for row in self.unusable]
        counted = [f"{text} ({count}x)" for text, count in silent.items()]
        return [visible(line) for line in (*self.changes, *self.costs, *unusable, *counted, *self.accepted)]

    @property
    def summary(self) -> str:
        """One line: the verdict, and how much it rests on."""
        verdict = {GOOD: "good", REGRESSION: "regression", NOTHING_COMPARED: self.too_little}[self.exit_code]
        cells = f"{self.compared} of {self.cells} baseline cells compared on {self.samples.total} samples"
        failed = f" ({len(self.unusable)} failed in the baseline)" if self.unusable else ""
        same = sum(row.verdict == "same" for row in self.rows)
        within = sum(row.verdict == "within" for row in self.rows)
        accepted = sum(row.verdict == ACCEPTED for row in self.rows)
        now = f", {accepted} accepted" if accepted else ""
        return (
            f"{verdict}: {cells}, {self.samples.paired} of them one by one{failed}; {same} quantities the same, "
            f"{within} within what is allowed, {len(self.regressions)} failing{now}"
        )

    def render(self) -> str:
        """A table of what differs, what could not be compared and why, and one line that sums it up."""
        rows = [[visible(text) for text in row] for row in self.shown]
        table = tabulate(rows, headers=GateRow._fields, tablefmt="simple", disable_numparse=True)
        blocks = [*([table] if rows else []), *(["\n".join(self.lines)] if self.lines else []), self.summary]
        return "\n".join(line.rstrip() for line in "\n\n".join(blocks).split("\n"))

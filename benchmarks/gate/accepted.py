"""Changes of results that somebody accepted with a reason: `accepted.json` beside a baseline's records.

    {"schema_version": 1, "accepted": [{"reason": "...", "changes": [{"cell": ..., "quantity": ..., ...}]}]}

It stays with the baseline, and every later gate shows it: why a bar is where it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitq.benchmarks.gate.policy import GateRow
from vitq.errors import BadInputError
from vitq.escape import line

FILE = "accepted.json"
_SHOWN, _CHANGES = 5, 3


class Change(BaseModel):
    """One quantity of one cell, as the gate printed it before and after."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    cell: str
    quantity: str
    before: str
    after: str

    @classmethod
    def of(cls, row: GateRow) -> Change:
        """What a row of the gate says."""
        return cls(cell=row.cell, quantity=row.quantity, before=row.baseline, after=row.current)

    def __str__(self) -> str:
        return f"{self.cell} {self.quantity} {self.before or 'none'} -> {self.after}"


class Acceptance(BaseModel):
    """A reason, and what changed for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    reason: str = Field(min_length=1)
    changes: list[Change]

    def __str__(self) -> str:
        first = "; ".join(map(str, self.changes[:_CHANGES]))
        rest = f" and {len(self.changes) - _CHANGES} more" if len(self.changes) > _CHANGES else ""
        return f"accepted earlier, {self.reason}: {first}{rest}"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schema_version: Literal[1] = 1
    accepted: list[Acceptance] = Field(default_factory=list)


def folder_of_baseline(baseline: Path) -> Path:
    """The folder of a baseline that was named by its folder or its file of records."""
    return baseline if baseline.is_dir() else baseline.parent


def read_accepted(baseline: Path) -> list[Acceptance]:
    """All that was accepted, the first first; none where there is no file. BadInputError where it is broken."""
    path = folder_of_baseline(baseline) / FILE
    if not path.exists():
        return []
    try:
        return _File.model_validate(json.loads(path.read_text(encoding="utf-8"))).accepted
    except (OSError, ValueError, RecursionError, ValidationError) as error:
        first = str(error).partition("\n")[0]
        raise BadInputError(f"{path} cannot be read ({first}): take it from the repository again") from None


def write_accepted(baseline: Path, accepted: Sequence[Acceptance]) -> None:
    """Replace the file by these."""
    content = _File(accepted=list(accepted)).model_dump_json(indent=1)
    (folder_of_baseline(baseline) / FILE).write_text(content + "\n", encoding="utf-8")


def told(accepted: Sequence[Acceptance]) -> list[str]:
    """A line each of the last few, and how many came before them."""
    before = len(accepted) - _SHOWN
    rest = [f"accepted earlier: {before} more in {FILE} of the baseline"] if before > 0 else []
    return [*(line(str(each)) for each in accepted[-_SHOWN:]), *rest]

"""`vitq gate --update`: accept what changed, with a reason that stays in the baseline.

Only cells of which something differs beyond what is allowed are replaced, with everything that was measured of them,
and new ones are added. The bar of all others stays where it was: many small steps within a tolerance are no way down.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vitq.benchmarks.gate.accepted import Acceptance, Change, folder_of_baseline, read_accepted, write_accepted
from vitq.benchmarks.gate.baseline import kept, outcomes_of
from vitq.benchmarks.gate.policy import ACCEPTED, FAILING, GateRow
from vitq.benchmarks.gate.result import GateResult
from vitq.benchmarks.gate.spread import drop_from_spread
from vitq.benchmarks.run.store import read_lines
from vitq.errors import BadInputError
from vitq.escape import line
from vitq.record import Asked, Line, Record, kind_of
from vitq.rows import latest

MOST = 1000
"""Characters of a reason."""


@dataclass(frozen=True)
class Update:
    """A wish to accept.

    Attributes:
        reason: why, one line; BadInputError where it says nothing.
        drop: cells that the run has no more leave the baseline.
    """

    reason: str
    drop: bool = False

    def __post_init__(self) -> None:
        if not any(character.isalnum() for character in self.reason):
            raise BadInputError("--update needs a reason, which stays in the baseline: give --reason 'WHY'")
        if len(self.reason) > MOST:
            raise BadInputError(f"--reason takes {MOST} characters at most, and has {len(self.reason)}")


def update_of(update: bool, reason: str | None, drop: bool) -> Update | None:
    """What the command line asks; BadInputError for a reason or `--drop` without `--update`, or no reason."""
    if update:
        return Update(" ".join((reason or "").split()), drop)
    if reason is not None or drop:
        raise BadInputError("--reason and --drop say how to accept a change: give --update with them")
    return None


def refusal(result: GateResult, update: Update) -> str:
    """Why these results cannot be a baseline; empty where they can."""
    failed = [row for row in result.rows if row.verdict in ("failed", "not-a-number") or _new_and_failed(row)]
    gone = [row for row in result.rows if row.verdict == "missing" and row.quantity == "cell"]
    if failed:
        return f"--update accepts no failure, and {_named(failed)}: mend it, or leave it out by -k"
    if gone and not update.drop:
        return f"--update was given results without {_named(gone)}: run them, or give --drop to let them go"
    return ""


def _new_and_failed(row: GateRow) -> bool:
    return row.verdict == "new" and row.current not in ("done", "unsupported")


def _named(rows: Sequence[GateRow]) -> str:
    rest = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    what = f" is {row.verdict}" if (row := rows[0]).verdict in ("failed", "not-a-number") else ""
    return f"{row.cell}{what or (' failed' if row.verdict == 'new' else '')}{rest}"


def accept(result: GateResult, baseline: Path, results: Path, update: Update) -> GateResult:
    """Write the baseline anew where something differs; what was accepted is no regression any more.

    Raises BadInputError where outcomes are missing, or a file cannot be written.
    """
    rows = [row for row in result.rows if row.verdict in FAILING or row.verdict == "new"]
    if not rows:
        return result
    gone = {row.cell for row in rows if row.verdict == "missing" and row.quantity == "cell"}
    wanted = {*result.differing, *(row.cell for row in rows if row.verdict == "new")} - gone
    try:
        _write(baseline, results, wanted, gone)
        changes = [Change.of(row) for row in rows]
        write_accepted(baseline, [*read_accepted(baseline), Acceptance(reason=update.reason, changes=changes)])
        drop_from_spread(baseline, wanted | gone)
    except OSError as error:
        raise BadInputError(f"the baseline {baseline} cannot be written: {error.strerror or error}") from None
    accepted = [row._replace(verdict=ACCEPTED) if row.verdict in FAILING else row for row in result.rows]
    what = f"{_counted(len(rows), 'change')} of {_counted(len(wanted | gone), 'cell')}"
    said = line(f"accepted now, {update.reason}: {what}; commit the baseline")
    compared = min(result.cells, result.compared + result.not_judged)
    return replace(result, rows=accepted, compared=compared, accepted=[*result.accepted, said], differing=())


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _write(baseline: Path, results: Path, wanted: Collection[str], gone: Collection[str]) -> None:
    """The baseline's records with those of `wanted` cells instead of its own, and without those that are gone."""
    folder = folder_of_baseline(baseline)
    file = baseline / "records.jsonl" if baseline.is_dir() else baseline
    before = read_lines(baseline)
    added = _chosen(read_lines(results), wanted, _timed(before))
    content = _in_use([*(each for each in before if _cell(each) not in gone), *added])
    files = {each.outcomes: outcomes_of(each, results) for each in added if isinstance(each, Record) and each.outcomes}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    new = file.with_name(f"{file.name}.new")
    new.write_text("".join(each.model_dump_json(exclude_none=True) + "\n" for each in content), encoding="utf-8")
    new.replace(file)
    for name in _outcomes(before) - _outcomes(content):
        (folder / name).unlink(missing_ok=True)


def _cell(of: Line) -> str | None:
    """The cell that a line asks for; None for a record, which several may share."""
    return of.cell.id if isinstance(of, Asked) else None


def _timed(lines: Sequence[Line]) -> set[str]:
    """Cells whose latency the baseline holds."""
    asked = [each for each in lines if isinstance(each, Asked)]
    return {each.cell.id for each in asked if any(kind_of(name) == "latency" for name in each.keys)}


def _chosen(lines: Sequence[Line], wanted: Collection[str], timed: Collection[str]) -> list[Line]:
    """What a baseline keeps of the wanted cells; latency of those whose latency it held before."""
    old = {each.cell.id for each in lines if isinstance(each, Asked)} & set(wanted)
    with_latency = {name for name in old if name in timed}
    found: list[Line] = []
    for names, latency in ((with_latency, True), (old - with_latency, False)):
        found += kept([each for each in lines if not isinstance(each, Asked) or each.cell.id in names], latency=latency)
    return found


def _in_use(lines: Sequence[Line]) -> list[Line]:
    """Each cell's last asking behind the records that count of it, each once."""
    known = latest(lines)
    found: dict[object, Line] = {}
    for each in known.asked.values():
        keys = [(kind_of(name), key) for name, key in each.keys.items()]
        for key in (*keys, ("accuracy", each.fp32_key or "")):
            if key in known.records:
                found[key] = known.records[key]
        found[each.cell.id] = each
    return list(found.values())


def _outcomes(lines: Sequence[Line]) -> set[str]:
    return {each.outcomes for each in lines if isinstance(each, Record) and each.outcomes}

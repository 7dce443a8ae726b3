"""Which cell is compared with which: matched by what was asked for, never by identity, which a change is to change.

A baseline cell that is gone or fails now is a regression. One that was given other data, weights or options is not
comparable, and fails too. One whose records are the baseline's own was not run anew and proves nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from vitq.benchmarks.gate.accuracy import judge_accuracy
from vitq.benchmarks.gate.counts import judge_counts
from vitq.benchmarks.gate.origin import describe_changes, describe_origins, identity_changes, other_inputs
from vitq.benchmarks.gate.policy import FAILING, UNJUDGED, GateRow, Policy
from vitq.benchmarks.gate.result import GateResult, Samples
from vitq.benchmarks.gate.speed import evaluation_costs, judge_speed
from vitq.benchmarks.gate.spread import Spread
from vitq.benchmarks.run.store import read_rows
from vitq.errors import BadInputError
from vitq.paired import Paired, pair, side
from vitq.rows import Row, by_cell

_LIMIT = re.compile(r"/limit\d+")


def read_baseline(path: Path) -> list[Row]:
    """The rows of an earlier run, a file or its folder.

    Raises BadInputError where there are none, where a line is no record, and where the last line was cut short: a
    baseline that lost a cell would let that cell pass.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        rows = read_rows(path)
    if caught:
        raise BadInputError(f"the baseline {path} is not whole ({caught[0].message}): copy it again")
    if not rows:
        raise BadInputError(f"the baseline {path} holds no cells: give the results of a finished run")
    return rows


def gate(
    baseline: Sequence[Row],
    current: Sequence[Row],
    policy: Policy | None = None,
    spread: Spread | None = None,
) -> GateResult:
    """Judge every cell of the baseline, and name the cells that are new; `spread` is that of the baseline."""
    policy = policy or Policy()
    before, after = by_cell(baseline), by_cell(current)
    judged = {name: _judge_cell(old, after.get(name), after, policy, spread) for name, old in before.items()}
    compared = [name for name, rows in judged.items() if any(row.verdict not in UNJUDGED for row in rows)]
    pairs = [(before[name], after[name]) for name in compared if name in after]
    failing = tuple(name for name, rows in judged.items() if any(row.verdict in FAILING for row in rows))
    new = [GateRow(name, "cell", "", row.status, "", "new") for name, row in after.items() if name not in before]
    return GateResult(
        # FP32 is judged beside every cell that shares it, and told once
        rows=list(dict.fromkeys([*(row for rows in judged.values() for row in rows), *new])),
        compared=len(compared),
        cells=len(before),
        samples=_samples(pairs),
        changes=[
            *describe_origins((left.provenance, right.provenance) for left, right in pairs),
            *describe_changes(identity_changes(*rows) for rows in pairs),
        ],
        costs=evaluation_costs(pairs),
        at_least=policy.at_least,
        differing=failing,
        not_judged=len(set(failing) - set(compared)),
    )


def _judge_cell(
    old: Row, new: Row | None, current: dict[str, Row], policy: Policy, spread: Spread | None
) -> list[GateRow]:
    row = GateRow(old.cell.id, "cell", old.status, "absent" if new is None else new.status, "", "not-compared")
    if old.status != "done":
        verdict = "not-compared" if old.status == "unsupported" else "unusable"
        return [row._replace(verdict=verdict, note=f"{old.status} in the baseline")]
    if new is None:
        return [row._replace(verdict="missing", note=_other_limit(old.cell.id, current))]
    if new.status != "done":
        return [row._replace(verdict="failed", note=(new.error or "").partition("\n")[0])]
    if _own(old, new):
        return [row._replace(verdict="own", note="the record is the baseline's own: it was not run anew")]
    if differing := other_inputs(old, new):
        return [row._replace(verdict="not-comparable", note=f"other {', '.join(differing)}")]
    return [*judge_accuracy(old, new, policy, spread), *judge_counts(old, new, policy), *judge_speed(old, new, policy)]


def _other_limit(name: str, current: dict[str, Row]) -> str:
    """A word where only another `--limit` of the cell was run."""
    wanted = _LIMIT.sub("", name)
    found = [row.cell.limit for each, row in current.items() if _LIMIT.sub("", each) == wanted]
    if not found:
        return ""
    limits = " and ".join("without --limit" if limit is None else f"with --limit {limit}" for limit in found)
    return f"run {limits} alone: run it as the baseline was"


def _own(old: Row, new: Row) -> bool:
    """Whether the very records of the baseline were found again, as a resumed run or a copied folder has them."""
    shared = old.keys.keys() & new.keys.keys()
    same = [old.keys[kind] == new.keys[kind] for kind in shared]
    left, right = old.provenance, new.provenance
    when = bool(left.finished) and (left.finished, left.machine) == (right.finished, right.machine)
    return when and all(same) and (old.metrics, old.size) == (new.metrics, new.size)


def _samples(pairs: Sequence[tuple[Row, Row]]) -> Samples:
    """Samples of all compared cells, of each cell's first metric, and those that were compared one by one."""
    total = paired = 0
    for old, new in pairs:
        metric = next(iter(old.metrics), None)
        if metric is None or metric not in new.metrics:
            continue
        total += old.metrics[metric].n
        found = pair(side(old), side(new), metric)
        paired += found.n if isinstance(found, Paired) else 0
    return Samples(total, paired)

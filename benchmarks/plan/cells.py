"""Cells: the product of a suite's methods, tasks, models, bits and seeds, each named by what is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vitq.benchmarks.plan.suite import NO_DATA, MethodEntry, Suite, TaskEntry
from vitq.errors import BadInputError
from vitq.methods.bits import Bits
from vitq.methods.cards import Card, all_cards
from vitq.record import CellKey
from vitq.subject import WHOLE

FP = "fp32"
"""The method that quantizes nothing."""


@dataclass(frozen=True)
class Refusal:
    """A combination of the product that a method declares it cannot serve, with its reason."""

    id: str
    reason: str


def expand(suite: Suite) -> tuple[list[CellKey], list[Refusal]]:
    """All cells of a suite in its own order, and the combinations left out with the reason of each.

    Raises BadInputError when two entries make the same id (give one of them a `variant`).
    """
    cells: list[CellKey] = []
    refused: list[Refusal] = []
    for entry, task, model in _rows(suite):
        card = all_cards()[entry.method]
        for word in entry.bits or task.bits or suite.bits:
            reason = card.supports.refuses(Bits.parse(word))
            for seed in entry.seeds or suite.seeds:
                cell = _cell(suite, entry, task, model, word, seed, card)
                if reason:
                    refused.append(Refusal(cell.id, reason))
                else:
                    cells.append(cell)
    _no_twins(cells, suite.name)
    return cells, refused


def _rows(suite: Suite) -> Iterator[tuple[MethodEntry, TaskEntry, str]]:
    """Entries of a method, a task and a model; FP32, and a method with a scope of its own, are one for all scopes."""
    scopes: dict[tuple[object, ...], str] = {}
    for task in suite.tasks:
        for model in task.models:
            for number, entry in enumerate(suite.methods):
                if not entry.runs_on(task) or (entry.models is not None and model not in entry.models):
                    continue
                first = scopes.setdefault((number, task.task, task.dataset, task.limit, model), task.scope)
                if first == task.scope or (entry.method != FP and entry.scope is None):
                    yield entry, task, model


def _cell(suite: Suite, entry: MethodEntry, task: TaskEntry, model: str, bits: str, seed: int, card: Card) -> CellKey:
    on_data = task.dataset != NO_DATA
    cell = CellKey(
        id="",
        method=entry.method,
        variant=entry.variant,
        options={**{name: known.recorded for name, known in card.options.items()}, **entry.options},
        task=task.task,
        dataset=task.dataset,
        model=model,
        bits=bits,
        seed=seed,
        scope=_scope(entry.method, entry.scope or task.scope),
        limit=task.limit if on_data else None,
        calibration=(entry.calibration or task.calibration or suite.calibration).model_dump() if on_data else {},
    )
    return cell.asked()


def _scope(method: str, scope: str) -> str:
    """The scope of a method's cells: FP32 quantizes nothing, so that it is one for every scope."""
    return WHOLE if method == FP else scope


def _no_twins(cells: list[CellKey], suite: str) -> None:
    seen: set[str] = set()
    for cell in cells:
        if cell.id in seen:
            raise BadInputError(f"suite {suite} has two cells called {cell.id}: give one of the two entries a variant")
        seen.add(cell.id)


def limited(cell: CellKey, limit: int) -> CellKey:
    """The same cell on a subset, which is another cell: its id says so. One without data stays as it is."""
    return cell if cell.dataset == NO_DATA else cell.asked(limit=limit)


def scoped(cell: CellKey, scope: str) -> CellKey:
    """The same cell with another part of the model quantized, which is another cell: its id says so."""
    return cell.asked(scope=_scope(cell.method, scope))

"""Cells: the product of a suite and their ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vitq.benchmarks.plan.picking import picker
from vitq.benchmarks.plan.suite import MethodEntry, Suite, TaskEntry
from vitq.errors import BadInputError
from vitq.methods.bits import Bits
from vitq.methods.cards import Card, all_cards
from vitq.record import CellKey

__all__ = ["Refusal", "expand", "limited", "picker"]


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
        for word in entry.bits or suite.bits:
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
    for task in suite.tasks:
        for model in task.models:
            for entry in suite.methods:
                if entry.models is None or model in entry.models:
                    yield entry, task, model


def _cell(suite: Suite, entry: MethodEntry, task: TaskEntry, model: str, bits: str, seed: int, card: Card) -> CellKey:
    named = entry.method + (f"[{entry.variant}]" if entry.variant else "")
    defaults = {name: known.recorded for name, known in card.options.items()}
    accounting = suite.mode == "accounting"
    dataset, limit = ("none", None) if accounting else (task.dataset, task.limit)
    cell = CellKey(
        id=f"{named}/{task.task}/{dataset}/{model}/{bits}/seed{seed}",
        method=entry.method,
        variant=entry.variant,
        options={**defaults, **entry.options},
        task=task.task,
        dataset=dataset,
        model=model,
        bits=bits,
        seed=seed,
        calibration={} if accounting else (entry.calibration or suite.calibration).model_dump(),
    )
    return cell if limit is None else limited(cell, limit)


def _no_twins(cells: list[CellKey], suite: str) -> None:
    seen: set[str] = set()
    for cell in cells:
        if cell.id in seen:
            raise BadInputError(f"suite {suite} has two cells called {cell.id}: give one of the two entries a variant")
        seen.add(cell.id)


def limited(cell: CellKey, limit: int) -> CellKey:
    """The same cell on a subset, which is another cell: its id says so."""
    if cell.limit is not None:
        cell = cell.model_copy(update={"id": cell.id.removesuffix(f"/limit{cell.limit}")})
    return cell.model_copy(update={"limit": limit, "id": f"{cell.id}/limit{limit}"})

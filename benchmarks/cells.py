"""Cells: the product of a suite, their ids, and the `-k` expressions that pick some of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vitq.benchmarks.record import CellKey
from vitq.benchmarks.suite import MethodEntry, Suite, TaskEntry
from vitq.errors import BadInputError
from vitq.methods.bits import Bits
from vitq.methods.cards import Card, all_cards


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
    defaults = {h.name: h.default for h in card.hyperparameters}
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


_TOKEN = re.compile(r"\(|\)|[^\s()]+")


def picker(expression: str) -> Callable[[str], bool]:
    """A test of cell ids from `repq and W4A4 and not (swin or seed1)`; words are substrings, case ignored.

    Raises BadInputError for an expression that cannot be read.
    """
    tokens = _TOKEN.findall(expression)
    if not tokens:
        raise BadInputError("-k needs an expression, as in -k 'repq_vit and W4A4'")
    tree, rest = _either(tokens, expression)
    if rest:
        raise _unreadable(expression, rest[0])
    return lambda text: tree(text.lower())


_Test = Callable[[str], bool]


def _unreadable(expression: str, token: str) -> BadInputError:
    return BadInputError(f"-k {expression!r} cannot be read at {token!r}: join words with and, or, not and ( )")


def _either(tokens: list[str], whole: str) -> tuple[_Test, list[str]]:
    left, tokens = _both(tokens, whole)
    while tokens and tokens[0] == "or":
        right, tokens = _both(tokens[1:], whole)
        left = (lambda a, b: lambda text: a(text) or b(text))(left, right)
    return left, tokens


def _both(tokens: list[str], whole: str) -> tuple[_Test, list[str]]:
    left, tokens = _one(tokens, whole)
    while tokens and tokens[0] == "and":
        right, tokens = _one(tokens[1:], whole)
        left = (lambda a, b: lambda text: a(text) and b(text))(left, right)
    return left, tokens


def _one(tokens: list[str], whole: str) -> tuple[_Test, list[str]]:
    if not tokens or tokens[0] in (")", "and", "or"):
        raise _unreadable(whole, tokens[0] if tokens else "its end")
    head, tokens = tokens[0], tokens[1:]
    if head == "not":
        inner, tokens = _one(tokens, whole)
        return (lambda text: not inner(text)), tokens
    if head == "(":
        inner, tokens = _either(tokens, whole)
        if not tokens or tokens[0] != ")":
            raise _unreadable(whole, "a missing )")
        return inner, tokens[1:]
    return (lambda text: head.lower() in text), tokens

"""Widths for every component under a budget: from a Pareto frontier, uniform, or drawn at random at equal cost.

By `size`, two independent problems: the weights' bits, and the activations' widths. A model's size says nothing of
activations: theirs is an average over MACs, so that it costs about the operations of the uniform model. By `bitops`,
one problem over pairs of widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from vitq.errors import MethodInputError
from vitq.methods.pmq.components import Component, Widths
from vitq.methods.pmq.pareto import Frontier, frontier
from vitq.methods.pmq.sensitivity import Table

Kind = Literal["weights", "activations", "bitops"]


@dataclass(frozen=True)
class Problem:
    """Components, the (weight, activation) widths each may take, their costs in bits or BitOPs, and the budget.

    An option's width is 0 where the problem does not decide it. Options are sorted by cost.
    """

    kind: Kind
    names: list[str]
    options: list[list[tuple[int, int]]]
    costs: list[list[int]]
    budget: float

    def total(self, choice: Sequence[int]) -> int:
        """Cost of an allocation."""
        return sum(cost[i] for cost, i in zip(self.costs, choice, strict=True))

    def uniform(self, w: int, a: int) -> list[int]:
        """The choice that gives every component these widths; ValueError where they are not offered."""
        return [next(i for i, (ow, oa) in enumerate(o) if ow in (0, w) and oa in (0, a)) for o in self.options]

    def check(self) -> None:
        """MethodInputError, one line, for a budget that no allocation meets or that all undercut."""
        low, high = sum(c[0] for c in self.costs), sum(c[-1] for c in self.costs)
        if not low <= self.budget <= high:
            where = "below the smallest" if self.budget < low else "above the largest"
            raise MethodInputError(
                f"the budget of {self.budget:,.0f} {UNITS[self.kind]} is {where} allocation; "
                f"set one between {low:,} and {high:,}"
            )


UNITS: dict[Kind, str] = {"weights": "weight bits", "activations": "MAC-weighted activation bits", "bitops": "BitOPs"}


def problem(kind: Kind, parts: Sequence[Component], widths: Sequence[int], budget: float) -> Problem:
    """The problem of one kind over the components that take part in it."""
    ladder = sorted(widths)
    names, options, costs = [], [], []
    for part in parts:
        if kind == "weights" and not part.weights:
            continue
        if kind == "bitops":
            pairs = [(w, a) for w in (ladder if part.weights else [0]) for a in ladder]
            priced = [(part.macs * (w or a) * a, (w, a)) for w, a in pairs]
        else:
            count = part.weights if kind == "weights" else part.macs
            priced = [(count * b, (b, 0) if kind == "weights" else (0, b)) for b in ladder]
        priced.sort()
        names.append(part.name)
        options.append([o for _, o in priced])
        costs.append([c for c, _ in priced])
    return Problem(kind, names, options, costs, budget)


def perturbations(task: Problem, table: Table) -> list[list[float]]:
    """Omega of every option: the sum over the operands whose width it decides."""
    return [
        [
            (table[name]["weight"][w] if w else 0.0) + (table[name]["activation"][a] if a else 0.0)
            for w, a in options
        ]
        for name, options in zip(task.names, task.options, strict=True)
    ]  # fmt: skip


def pareto(task: Problem, table: Table, limit: int) -> tuple[list[int], Frontier]:
    """The frontier, and the choice of least perturbation within the budget."""
    front = frontier(task.costs, perturbations(task, table), limit)
    return front.choice(front.under(task.budget)), front


def uniform(task: Problem) -> list[int]:
    """The largest width, the same for every component and operand, that the budget pays."""
    offered = sorted({b for options in task.options for pair in options for b in pair if b}, reverse=True)
    for bits in offered:
        choice = task.uniform(bits, bits)
        if task.total(choice) <= task.budget:
            return choice
    raise MethodInputError(f"no uniform width fits the budget of {task.budget:,.0f} {UNITS[task.kind]}")


def random(task: Problem, generator: torch.Generator) -> list[int]:
    """A random choice of equal cost: drawn freely, then lowered until it fits and raised while anything fits."""
    choice = [int(torch.randint(len(o), (), generator=generator)) for o in task.options]
    cost = task.total(choice)
    while cost > task.budget:
        item = _pick([i for i, c in enumerate(choice) if c > 0], generator)
        cost -= task.costs[item][choice[item]] - task.costs[item][choice[item] - 1]
        choice[item] -= 1
    while rises := [
        i
        for i, c in enumerate(choice)
        if c + 1 < len(task.costs[i]) and cost + task.costs[i][c + 1] - task.costs[i][c] <= task.budget
    ]:
        item = _pick(rises, generator)
        cost += task.costs[item][choice[item] + 1] - task.costs[item][choice[item]]
        choice[item] += 1
    return choice


def _pick(places: list[int], generator: torch.Generator) -> int:
    return places[int(torch.randint(len(places), (), generator=generator))]


def widths_of(parts: Sequence[Component], choices: Sequence[tuple[Problem, list[int]]]) -> Widths:
    """Join the choices of all problems; a product's weight width is its activation width."""
    found: dict[str, list[int]] = {part.name: [0, 0] for part in parts}
    for task, choice in choices:
        for name, options, index in zip(task.names, task.options, choice, strict=True):
            for side, bits in enumerate(options[index]):
                found[name][side] = bits or found[name][side]
    return {name: (w or a, a) for name, (w, a) in found.items()}

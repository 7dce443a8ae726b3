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


def problem_of(kind: Kind, parts: Sequence[Component], widths: Sequence[int], budget: float) -> Problem:
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


def perturbations(problem: Problem, table: Table) -> list[list[float]]:
    """Omega of every option: the sum over the operands whose width it decides."""
    return [
        [
            (table[name]["weight"][w] if w else 0.0) + (table[name]["activation"][a] if a else 0.0)
            for w, a in options
        ]
        for name, options in zip(problem.names, problem.options, strict=True)
    ]  # fmt: skip


def pareto(problem: Problem, table: Table, limit: int) -> tuple[list[int], Frontier]:
    """The frontier, and the choice of least perturbation within the budget."""
    front = frontier(problem.costs, perturbations(problem, table), limit)
    return front.choice(front.under(problem.budget)), front


def uniform(problem: Problem) -> list[int]:
    """The largest width, the same for every component and operand, that the budget pays."""
    offered = sorted({b for options in problem.options for pair in options for b in pair if b}, reverse=True)
    for bits in offered:
        choice = problem.uniform(bits, bits)
        if problem.total(choice) <= problem.budget:
            return choice
    raise MethodInputError(f"no uniform width fits the budget of {problem.budget:,.0f} {UNITS[problem.kind]}")


def random(problem: Problem, generator: torch.Generator) -> list[int]:
    """A random choice of equal cost: drawn freely, then lowered until it fits and raised while anything fits."""
    choice = [int(torch.randint(len(o), (), generator=generator)) for o in problem.options]
    cost = problem.total(choice)
    while cost > problem.budget:
        item = _pick([i for i, c in enumerate(choice) if c > 0], generator)
        cost -= problem.costs[item][choice[item]] - problem.costs[item][choice[item] - 1]
        choice[item] -= 1
    while rises := [
        i
        for i, c in enumerate(choice)
        if c + 1 < len(problem.costs[i]) and cost + problem.costs[i][c + 1] - problem.costs[i][c] <= problem.budget
    ]:
        item = _pick(rises, generator)
        cost += problem.costs[item][choice[item] + 1] - problem.costs[item][choice[item]]
        choice[item] += 1
    return choice


def _pick(items: list[int], generator: torch.Generator) -> int:
    return items[int(torch.randint(len(items), (), generator=generator))]


def widths_of(parts: Sequence[Component], choices: Sequence[tuple[Problem, list[int]]]) -> Widths:
    """Join the choices of all problems; a product's weight width is its activation width."""
    found: dict[str, list[int]] = {part.name: [0, 0] for part in parts}
    for problem, choice in choices:
        for name, options, index in zip(problem.names, problem.options, choice, strict=True):
            for side, bits in enumerate(options[index]):
                found[name][side] = bits or found[name][side]
    return {name: (w or a, a) for name, (w, a) in found.items()}

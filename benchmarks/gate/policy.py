"""What a gate allows, and the row that it makes of a judgement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from vitq.benchmarks.plan import tolerances
from vitq.errors import BadInputError
from vitq.metrics import METRICS

FAILING = frozenset(
    ("worse", "better", "changed", "missing", "failed", "not-comparable", "not-a-number", "slower")
)  # fmt: skip
ACCEPTED = "accepted"
"""The verdict on what would fail, and was accepted with a reason."""
UNJUDGED = frozenset(("missing", "not-comparable", "not-compared", "unusable", "own", "new"))
"""Verdicts on a whole cell that compare nothing of it."""
QUIET = frozenset(("same", "shown", "not-compared", "unusable", "own"))
"""Verdicts that the table leaves out: nothing differs, or the lines below it count them."""


@dataclass(frozen=True)
class Policy:
    """What may differ.

    Attributes:
        tolerance: of accuracy, in points, either way.
        stderrs: standard errors that are allowed on another machine, with other versions or threads. 3, not 2: of the
            hundred cells of a suite five lie beyond 2 by chance alone, one in four suites has one beyond 3.
        alpha: of the test whether a kernel's ratio to FP32 moved.
        slowdown: the ratio may grow by this factor; less is not told from noise on a shared machine.
        cost: gate fake-quant times too, by the same ratio; they say what an evaluation costs, and no speed.
        by_name: tolerances of metrics and counts that have one of their own, by name, in their own unit either way.
        at_least: cells that must be compared; "all" counts what failed in the baseline too; None: more than could not.
    """

    tolerance: float = 0.0
    stderrs: float = 3.0
    alpha: float = 0.01
    slowdown: float = 1.1
    cost: bool = False
    at_least: int | Literal["all"] | None = None
    by_name: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = (self.tolerance, self.stderrs, self.alpha, self.slowdown)
        if not all(math.isfinite(n) and n >= 0 for n in numbers) or self.slowdown < 1 or not 0 < self.alpha < 1:
            raise BadInputError(
                "the gate needs a tolerance and standard errors of 0 or more, an alpha between 0 and 1 and a slowdown "
                "of 1 or more"
            )
        if isinstance(self.at_least, int) and self.at_least < 1:
            raise BadInputError("a gate that needs no cell compared says nothing: --at-least takes 1 or more, or all")

    def of_metric(self, name: str) -> float:
        """Points that a metric may differ on one machine."""
        return self.by_name.get(name, self.tolerance)

    def of_count(self, name: str) -> float:
        """What a count may differ, in its own unit: nothing, where nothing else was said."""
        own = name if name in tolerances.COUNTS else tolerances.CONVENTIONS
        return self.by_name.get(own, 0.0)


def policy_of(
    site: Mapping[str, float],
    allow: Mapping[str, float],
    *,
    tolerance: float | None = None,
    stderrs: float | None = None,
    slowdown: float | None = None,
    cost: bool = False,
    at_least: int | Literal["all"] | None = None,
) -> Policy:
    """The site file's tolerances, over them those of the command line; `tolerance` replaces those of every metric."""
    if tolerance is not None:
        site = {name: value for name, value in site.items() if name not in METRICS}
    asked = {tolerances.ACCURACY: tolerance, tolerances.STDERRS: stderrs, tolerances.LATENCY: slowdown}
    found = {**site, **{name: value for name, value in asked.items() if value is not None}, **allow}
    normal = Policy()
    return Policy(
        tolerance=found.pop(tolerances.ACCURACY, normal.tolerance),
        stderrs=found.pop(tolerances.STDERRS, normal.stderrs),
        slowdown=found.pop(tolerances.LATENCY, normal.slowdown),
        cost=cost,
        at_least=at_least,
        by_name=found,
    )


def cells_asked(word: str | None) -> int | Literal["all"] | None:
    """`--at-least` as the policy takes it; BadInputError where it is neither a number nor all."""
    if word is None:
        return None
    if word == "all":
        return "all"
    try:
        return int(word)
    except ValueError:
        raise BadInputError(f"--at-least takes a number of cells or all, not {word!r}") from None


class GateRow(NamedTuple):
    """One judgement: the cell, the quantity, both values, how much they may differ, the verdict and why."""

    cell: str
    quantity: str
    baseline: str
    current: str
    allowed: str
    verdict: str
    note: str = ""

"""What a gate allows, and the row that it makes of a judgement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vitq.errors import BadInputError

FAILING = frozenset(
    ("worse", "better", "changed", "missing", "failed", "not-comparable", "not-a-number", "slower")
)  # fmt: skip
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
        at_least: cells that must be compared; "all" counts what failed in the baseline too; None: more than could not.
    """

    tolerance: float = 0.0
    stderrs: float = 3.0
    alpha: float = 0.01
    slowdown: float = 1.1
    cost: bool = False
    at_least: int | Literal["all"] | None = None

    def __post_init__(self) -> None:
        numbers = (self.tolerance, self.stderrs, self.alpha, self.slowdown)
        if not all(math.isfinite(n) and n >= 0 for n in numbers) or self.slowdown < 1 or not 0 < self.alpha < 1:
            raise BadInputError(
                "the gate needs a tolerance and standard errors of 0 or more, an alpha between 0 and 1 and a slowdown "
                "of 1 or more"
            )
        if isinstance(self.at_least, int) and self.at_least < 1:
            raise BadInputError("a gate that needs no cell compared says nothing: --at-least takes 1 or more, or all")


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

"""Pareto frontier of (cost, perturbation) by dynamic programming over components."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Frontier:
    """Non-dominated points, cost rising and perturbation falling, and the choice behind each.

    `slack` bounds what pruning cost: for every true frontier point there is one here with no more perturbation and at
    most `slack` more cost; 0 means that the frontier is exact.
    """

    cost: NDArray[np.float64]
    perturbation: NDArray[np.float64]
    slack: float = 0.0
    _trail: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list, repr=False)

    def choice(self, point: int) -> list[int]:
        """Index of the option that each component takes at a point."""
        picked = []
        for parent, option in reversed(self._trail):
            picked.append(int(option[point]))
            point = int(parent[point])
        return picked[::-1]

    def under(self, budget: float) -> int:
        """The point of least perturbation whose cost is within the budget; ValueError where there is none."""
        fitting = int(np.searchsorted(self.cost, budget, side="right"))
        if fitting == 0:
            raise ValueError(f"no allocation costs {budget:g} or less; the smallest costs {self.cost[0]:g}")
        return fitting - 1


def frontier(costs: list[list[int]], perturbations: list[list[float]], limit: int = 8192) -> Frontier:
    """Every non-dominated sum of one (cost, perturbation) an item, or a bounded approximation of it.

    Item i offers options with `costs[i]` and `perturbations[i]`. After an item joins, dominated points go. Where more
    than `limit` points are left, the cost range is cut in `limit` buckets of equal width and the point of least
    perturbation in each bucket stays (and the cheapest of all): what is dropped is beaten by a point that costs less
    than a bucket more. `slack` sums these widths.
    """
    front = Frontier(np.zeros(1), np.zeros(1))
    for item_costs, item_perturbations in zip(costs, perturbations, strict=True):
        cost = (front.cost[:, None] + np.asarray(item_costs, dtype=np.float64)[None]).ravel()
        perturbation = (front.perturbation[:, None] + np.asarray(item_perturbations)[None]).ravel()
        kept = non_dominated(cost, perturbation)
        if len(kept) > limit:
            width = (cost[kept[-1]] - cost[kept[0]]) / limit
            bucket = ((cost[kept] - cost[kept[0]]) / width).astype(np.int64)
            last = np.append(bucket[1:] != bucket[:-1], True)
            last[0] = True
            kept, front.slack = kept[last], front.slack + width
        front._trail.append((kept // len(item_costs), kept % len(item_costs)))
        front.cost, front.perturbation = cost[kept], perturbation[kept]
    return front


def non_dominated(cost: NDArray[np.float64], perturbation: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of the points that no other point beats in one and equals or beats in the other, by rising cost.

    Of equal points the first stays.
    """
    order = np.lexsort((perturbation, cost))
    lowest = np.minimum.accumulate(perturbation[order])
    falls = np.append(True, lowest[1:] < lowest[:-1])
    kept: NDArray[np.int64] = order[falls]
    return kept

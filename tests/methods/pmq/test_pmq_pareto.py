"""The frontier against brute force, and its bound where it is pruned."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitq.methods.pmq.pareto import frontier, non_dominated

WIDTHS = (2, 3, 4, 6, 8)


def every_sum(costs: list[list[int]], perturbations: list[list[float]]) -> list[tuple[float, float]]:
    """(cost, perturbation) of every allocation, summed item by item as the frontier does."""
    totals = []
    for choice in itertools.product(*(range(len(c)) for c in costs)):
        cost, perturbation = 0.0, 0.0
        for i, option in enumerate(choice):
            cost, perturbation = cost + costs[i][option], perturbation + perturbations[i][option]
        totals.append((cost, perturbation))
    return totals


def brute_force(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other point beats, by the definition."""
    best: dict[float, float] = {}
    for cost, perturbation in points:
        best[cost] = min(perturbation, best.get(cost, np.inf))
    return [(c, p) for c, p in sorted(best.items()) if all(q > p for d, q in best.items() if d < c)]


@st.composite
def items(draw: st.DrawFn) -> tuple[list[list[int]], list[list[float]]]:
    count = draw(st.integers(1, 6))
    options = draw(st.integers(2, 4 if count > 4 else 5))
    costs = [[draw(st.integers(1, 50)) * b for b in WIDTHS[:options]] for _ in range(count)]
    number = st.floats(0, 10, allow_nan=False, width=32)
    return costs, [[draw(number) for _ in range(options)] for _ in range(count)]


@settings(max_examples=40, deadline=None)
@given(items())
def test_frontier_is_brute_force_frontier(case: tuple[list[list[int]], list[list[float]]]) -> None:
    costs, perturbations = case
    front = frontier(costs, perturbations)
    assert list(zip(front.cost, front.perturbation, strict=True)) == brute_force(every_sum(costs, perturbations))
    assert front.slack == 0


@settings(max_examples=30, deadline=None)
@given(items(), st.floats(0, 1))
def test_choice_under_a_budget_is_the_best_of_all(
    case: tuple[list[list[int]], list[list[float]]], where: float
) -> None:
    costs, perturbations = case
    totals = every_sum(costs, perturbations)
    low, high = min(c for c, _ in totals), max(c for c, _ in totals)
    budget = low + where * (high - low)
    front = frontier(costs, perturbations)
    point = front.under(budget)
    assert front.perturbation[point] == min(p for c, p in totals if c <= budget)
    choice = front.choice(point)
    assert sum(c[i] for c, i in zip(costs, choice, strict=True)) == front.cost[point] <= budget


@settings(max_examples=30, deadline=None)
@given(items(), st.integers(4, 40))
def test_pruned_frontier_keeps_its_bound(case: tuple[list[list[int]], list[list[float]]], limit: int) -> None:
    costs, perturbations = case
    pruned, exact = frontier(costs, perturbations, limit), frontier(costs, perturbations)
    assert len(pruned.cost) <= limit + 2
    assert pruned.cost[0] == exact.cost[0]
    for cost, perturbation in zip(exact.cost, exact.perturbation, strict=True):
        fitting = pruned.perturbation[pruned.cost <= cost + pruned.slack + 1e-6]
        assert fitting.min() <= perturbation + 1e-9


def test_equal_points_are_kept_once() -> None:
    cost, perturbation = np.array([2.0, 1.0, 1.0, 2.0]), np.array([1.0, 3.0, 3.0, 5.0])
    assert non_dominated(cost, perturbation).tolist() == [1, 0]


def test_no_point_below_the_smallest() -> None:
    with pytest.raises(ValueError, match="the smallest costs 2"):
        frontier([[2, 4]], [[1.0, 0.5]]).under(1)

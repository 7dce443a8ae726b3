"""What a PMQ run leaves in its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vitq.details import pmq
from vitq.details.pmq import AverageBits, Details, Patches
from vitq.methods.pmq.allocation import Kind, Problem, perturbations
from vitq.methods.pmq.components import Component, Widths
from vitq.methods.pmq.options import Options
from vitq.methods.pmq.pareto import Frontier
from vitq.methods.pmq.search import Search
from vitq.methods.pmq.sensitivity import Table
from vitq.options import without_effect

_POINTS = 200


def describe(
    run: Search,
    widths: Widths,
    asked: Sequence[Problem],
    tables: dict[str, Table],
    fronts: dict[Kind, Frontier],
    patches: Patches | None,
    total_bitops: float,
) -> Details:
    """Components with widths and sensitivities, problems with budgets and frontiers, search seconds."""
    options, parts = run.options, run.components
    source = options.allocation if options.allocation in tables else "pareto"
    chosen = tables.get(source)
    weights, macs = sum(p.weights for p in parts), sum(p.macs for p in parts)
    return Details(
        options=pmq.Options(**(asdict(options) | {"widths": list(options.widths)})),
        without_effect=without_effect(options, _unread(options, run.subject.draws_labels)),
        sensitivity_by=source if chosen else None,
        components=[_component(part, widths, chosen) for part in parts],
        problems=[_problem(problem, widths, chosen, fronts.get(problem.kind)) for problem in asked],
        average_bits=AverageBits(
            weights=sum(p.weights * widths[p.name][0] for p in parts) / weights,
            activations=sum(p.macs * widths[p.name][1] for p in parts) / macs,
        ),
        gbitops=patches.gbitops if patches else total_bitops / 1e9,
        patches=patches,
        search_seconds=run.seconds,
    )


def _unread(options: Options, draws_labels: bool) -> set[str]:
    """Options that this run reads nothing of."""
    searches = options.compare_search or options.allocation == "pareto"
    scored = options.compare_search or options.allocation in ("pareto", "leave_one_out")
    unread = set() if searches else {"perturbation"}
    unread |= set() if scored else {"labels", "frontier_points"}
    unread |= set() if draws_labels else {"labels"}
    unread |= set() if options.patch_wise else {"patch_saving"}
    return unread if options.allocation == "random" else unread | {"draw"}


def _component(part: Component, widths: Widths, table: Table | None) -> pmq.Component:
    return pmq.Component(
        name=part.name,
        weights=part.weights,
        inputs=part.inputs,
        macs=part.macs,
        weight_bits=widths[part.name][0] if part.weights else None,
        activation_bits=widths[part.name][1],
        sensitivity=table[part.name] if table else {},
    )


def _problem(problem: Problem, widths: Widths, table: Table | None, front: Frontier | None) -> pmq.Problem:
    """Budget and bounds and, with a table, the frontier, thinned, with the uniform points and the chosen one."""
    bounds: dict[str, Any] = {
        "kind": problem.kind, "budget": problem.budget,
        "smallest": sum(c[0] for c in problem.costs), "largest": sum(c[-1] for c in problem.costs),
    }  # fmt: skip
    if table is None or front is None:
        return pmq.Problem(**bounds)
    omegas = perturbations(problem, table)

    def point(choice: Sequence[int]) -> tuple[float, float]:
        return float(problem.total(choice)), sum(o[i] for o, i in zip(omegas, choice, strict=True))

    taken = _taken(problem, widths)
    ladder = sorted({b for options in problem.options for pair in options for b in pair if b})
    kept = np.unique(np.linspace(0, len(front.cost) - 1, min(_POINTS, len(front.cost))).round().astype(int))
    return pmq.Problem(
        **bounds,
        chosen=None if taken is None else point(taken),
        uniform=[(b, *point(problem.uniform(b, b))) for b in ladder],
        frontier=[(float(front.cost[i]), float(front.perturbation[i])) for i in kept],
        frontier_size=len(front.cost),
        slack=front.slack,
    )


def _taken(problem: Problem, widths: Widths) -> list[int] | None:
    """The option that each component took; None where one took none of the problem's."""

    def index(name: str, options: list[tuple[int, int]]) -> int | None:
        w, a = widths[name]
        return next((i for i, (ow, oa) in enumerate(options) if ow in (0, w) and oa in (0, a)), None)

    found = [index(name, options) for name, options in zip(problem.names, problem.options, strict=True)]
    return None if None in found else [i for i in found if i is not None]

"""What a PMQ cell leaves in its record, all of it JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vitq.methods.pmq.allocation import Kind, Problem, perturbations
from vitq.methods.pmq.components import Component, Widths
from vitq.methods.pmq.pareto import Frontier
from vitq.methods.pmq.sensitivity import Table
from vitq.options import without_effect

_POINTS = 200


def describe(parts: Sequence[Component], widths: Widths, tasks: Sequence[Problem], tables: dict[str, Table],
             fronts: dict[Kind, Frontier], total_bitops: float, seconds: dict[str, float],
             patches: dict[str, Any] | None, options: Any) -> dict[str, Any]:  # fmt: skip
    """Components with widths and sensitivities, problems with budgets and frontiers, search seconds."""
    source = options.allocation if options.allocation in tables else "pareto"
    chosen = tables.get(source)
    weights, macs = sum(p.weights for p in parts), sum(p.macs for p in parts)
    return {
        "options": asdict(options) | {"widths": list(options.widths)},
        "without_effect": without_effect(options, _unread(options)),
        "sensitivity_by": source if chosen else None,
        "components": [_component(part, widths, chosen) for part in parts],
        "problems": [_problem(task, widths, chosen, fronts.get(task.kind)) for task in tasks],
        "average_bits": {
            "weights": sum(p.weights * widths[p.name][0] for p in parts) / weights,
            "activations": sum(p.macs * widths[p.name][1] for p in parts) / macs,
        },
        "gbitops": patches["gbitops"] if patches else total_bitops / 1e9,
        "patches": patches,
        "search_seconds": seconds,
    }


def _unread(options: Any) -> set[str]:
    """Options that this run reads nothing of."""
    searches = options.compare_search or options.allocation == "pareto"
    scored = options.compare_search or options.allocation in ("pareto", "leave_one_out")
    unread = set() if searches else {"perturbation"}
    unread |= set() if scored else {"labels", "frontier_points"}
    unread |= set() if options.patch_wise else {"patch_saving"}
    return unread if options.allocation == "random" else unread | {"draw"}


def _component(part: Component, widths: Widths, table: Table | None) -> dict[str, Any]:
    rows = table[part.name] if table else {}
    return {
        "name": part.name,
        "weights": part.weights,
        "inputs": part.inputs,
        "macs": part.macs,
        "weight_bits": widths[part.name][0] if part.weights else None,
        "activation_bits": widths[part.name][1],
        "sensitivity": {operand: {str(b): v for b, v in by.items()} for operand, by in rows.items()},
    }


def _problem(task: Problem, widths: Widths, table: Table | None, front: Frontier | None) -> dict[str, Any]:
    """Budget, chosen cost, and with a table: frontier points (thinned), uniform points, the chosen point."""
    row: dict[str, Any] = {
        "kind": task.kind,
        "budget": task.budget,
        "smallest": sum(c[0] for c in task.costs),
        "largest": sum(c[-1] for c in task.costs),
    }
    if table is None or front is None:
        return row
    omegas = perturbations(task, table)

    def point(choice: Sequence[int]) -> list[float]:
        return [float(task.total(choice)), sum(o[i] for o, i in zip(omegas, choice, strict=True))]

    def place(name: str, options: list[tuple[int, int]]) -> int | None:
        w, a = widths[name]
        return next((i for i, (ow, oa) in enumerate(options) if ow in (0, w) and oa in (0, a)), None)

    places = [place(name, options) for name, options in zip(task.names, task.options, strict=True)]
    row["chosen"] = None if None in places else point([i for i in places if i is not None])
    ladder = sorted({b for options in task.options for pair in options for b in pair if b})
    row["uniform"] = [[b, *point(task.uniform(b, b))] for b in ladder]
    kept = np.unique(np.linspace(0, len(front.cost) - 1, min(_POINTS, len(front.cost))).round().astype(int))
    row["frontier"] = [[float(front.cost[i]), float(front.perturbation[i])] for i in kept]
    row["frontier_size"], row["slack"] = len(front.cost), front.slack
    return row

"""The budgets of a PMQ run as knapsack problems, and the widths that solve them."""

from __future__ import annotations

import torch
from torch import nn

from vitq.methods.pmq import allocation
from vitq.methods.pmq.allocation import Kind, Problem, problem_of, widths_of
from vitq.methods.pmq.components import Widths
from vitq.methods.pmq.pareto import Frontier
from vitq.methods.pmq.search import Search
from vitq.methods.pmq.sensitivity import Table
from vitq.methods.toolkit.stored import HasPacked


def problems(run: Search) -> list[Problem]:
    """The knapsack problems of the cost; MethodInputError where a budget is out of reach."""
    found = _by_size(run) if run.options.cost == "size" else [_by_bitops(run)]
    for problem in found:
        problem.check()
    return found


def _asked(run: Search) -> tuple[float, float]:
    """The budget as a number for weights and one for activations: the cell's widths where none is given."""
    given = run.options.budget
    return (run.bits.w, run.bits.a) if given is None else (given, given)


def _by_size(run: Search) -> list[Problem]:
    found, widths, (w, a) = run.components, run.options.widths, _asked(run)
    weights, macs = sum(c.weights for c in found), sum(c.macs for c in found)
    if run.options.budget_kind == "average_bits":
        bits, activations = w * weights, a * macs
    else:
        bits, activations = w * 8e6 - _fixed_bits(run.part), run.bits.a * macs
    return [problem_of("weights", found, widths, bits), problem_of("activations", found, widths, activations)]


def _by_bitops(run: Search) -> Problem:
    w, a = _asked(run)
    if run.options.budget_kind == "gbitops":
        asked = w * 1e9
    else:
        asked = sum(c.macs * (w if c.weights else a) * a for c in run.components)
    if run.options.patch_wise:
        asked /= 1 - run.options.patch_saving
    return problem_of("bitops", run.components, run.options.widths, asked)


def _fixed_bits(part: nn.Module) -> int:
    """What ships beside the quantized weights: grids, biases, norms and embeddings in FP32."""
    packed = [m for m in part.modules() if isinstance(m, HasPacked)]
    inside = {id(p) for m in packed for p in m.parameters()}
    rest = sum(p.numel() for p in part.parameters() if id(p) not in inside)
    return 32 * rest + sum(row.numel * row.bits for m in packed for row in m.packed_tensors() if row.name != "weight")


def allocate(run: Search, asked: list[Problem], tables: dict[str, Table]) -> tuple[Widths, dict[Kind, Frontier]]:
    """Widths by the option's allocation, and the frontiers where there is a table for one."""
    options = run.options
    source = options.allocation if options.allocation in tables else "pareto"
    fronts: dict[Kind, Frontier] = {}
    choices = []
    generator = torch.Generator().manual_seed(run.subject.seed * 100_003 + options.draw)
    for problem in asked:
        if source in tables:
            choice, fronts[problem.kind] = allocation.pareto(problem, tables[source], options.frontier_points)
        if options.allocation == "random":
            choice = allocation.random(problem, generator)
        if options.allocation == "uniform" and options.budget is not None:
            choice = allocation.uniform(problem)
        if options.allocation != "uniform" or options.budget is not None:
            choices.append((problem, choice))
    if not choices:
        w, a = run.bits.w, run.bits.a
        return {c.name: (w if c.weights else a, a) for c in run.components}, fronts
    return widths_of(run.components, choices), fronts

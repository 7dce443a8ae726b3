"""What PMQ says of its work: components with widths and sensitivities, budgets with their frontiers, search seconds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from vitq import details

Point = tuple[float, float]
"""The cost of an allocation and its summed sensitivity."""
Operand = Literal["weight", "activation"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(_Table):
    """The options of the run; see `vitq.methods.pmq.options.Options`."""

    allocation: str
    cost: str
    budget_kind: str
    budget: float | None
    widths: list[int]
    labels: str
    perturbation: str
    patch_wise: bool
    patch_saving: float
    frontier_points: int
    draw: int
    compare_search: bool


class Component(_Table):
    """A layer or product: weights, activation elements and MACs of an image, bits, and its sensitivity by width.

    `weight_bits` is None for a product. `sensitivity` is by operand, then by width in bits.
    """

    name: str
    weights: int
    inputs: int
    macs: int
    weight_bits: int | None
    activation_bits: int
    sensitivity: dict[Operand, dict[int, float]] = {}


class Problem(_Table):
    """A budget in bits or BitOPs, the cost of all components at the lowest and at the highest width, and the search.

    With a frontier: `chosen`, the point that was taken (None where it is none of the problem's), `uniform`, width with
    cost and sensitivity, `frontier` thinned to 200 points of `frontier_size`, and `slack`, the bound on what pruning
    costs, 0 where the frontier is exact.
    """

    kind: Literal["weights", "activations", "bitops"]
    budget: float
    smallest: int
    largest: int
    chosen: Point | None = None
    uniform: list[tuple[int, float, float]] = []
    frontier: list[Point] = []
    frontier_size: int | None = None
    slack: float | None = None

    @model_serializer(mode="wrap")
    def _searched(self, every: SerializerFunctionWrapHandler) -> dict[str, Any]:
        known: dict[str, Any] = every(self)
        searched = ("chosen", "uniform", "frontier", "frontier_size", "slack")
        return known if self.frontier_size is not None else {k: v for k, v in known.items() if k not in searched}


class AverageBits(_Table):
    """Average widths: of weights over weights, of activations over MACs."""

    weights: float
    activations: float


class Patches(_Table):
    """Patch-wise widths: the share of patches at the lower width, BitOPs before and after, components they are in."""

    share: float
    gbitops_before: float
    gbitops: float
    components: int
    importance: Literal["class token", "mean attention"]


class Details(details.Details):
    """Widths of every component and what they cost; `sensitivity_by` names the search that the widths come from.

    `search_seconds` is by phase; `leave_one_out_passes` in it is a number of forward passes.
    """

    options: Options
    sensitivity_by: str | None
    components: list[Component]
    problems: list[Problem]
    average_bits: AverageBits
    gbitops: float
    patches: Patches | None
    search_seconds: dict[str, float]

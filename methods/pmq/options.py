"""Options of PMQ, each with where its default comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitq.options import option

Perturbation = Literal["directional", "squared", "relative", "absolute"]
"""How the size of a perturbation enters the sensitivity; see `sensitivity`."""


@dataclass(frozen=True)
class Options:
    """Which allocation, at which cost and budget, by which sensitivity, and whether patches differ."""

    allocation: Literal["pareto", "uniform", "random", "leave_one_out"] = option(
        "pareto", source="abstract", effect="row", note="the others are baselines on the same base quantizer"
    )
    cost: Literal["size", "bitops"] = option(
        "size", source="reconstruction", effect="row",
        note="size decides weight and activation widths in two independent problems",
    )  # fmt: skip
    budget_kind: Literal["average_bits", "mb", "gbitops"] = option(
        "average_bits", source="reconstruction", effect="row",
        note="mb counts the packed model, grids and biases included",
    )  # fmt: skip
    budget: float | None = option(
        None, source="reconstruction", effect="row",
        note="null is the cell's widths as averages, over weights and, for activations, over MACs; by bitops, the "
        "BitOPs of the uniform model",
    )  # fmt: skip
    widths: tuple[int, ...] = option((2, 3, 4, 6, 8), source="reconstruction", effect="row")
    labels: Literal["task", "random"] = option(
        "random", source="reconstruction", effect="row",
        note="SNIP uses the task's loss, whose gradient vanishes where the model fits its calibration images; against "
        "seeded random labels the loss is the margin to another class, and every image counts. Where the "
        "task draws no labels, as of detectors and segmenters, the task's own are taken",
    )  # fmt: skip
    perturbation: Perturbation = option(
        "directional", source="reconstruction", effect="row",
        note="directional: mean over images of (sum over elements of dL/dm times the relative error)^2, the error with "
        "its sign; absolute is the product of norms |dL/dm|_1 ||T-Q(T)||, relative divides by ||T|| and takes the L2 "
        "norm, squared is its square. Chosen on 16 calibration images of ViT-Tiny: rank correlation with the measured "
        "divergence of a component quantized alone 0.93 (directional), 0.67 (squared), 0.69 (relative)",
    )  # fmt: skip
    patch_wise: bool = option(
        False, source="reconstruction", effect="row",
        note="the abstract has it as a separate module; off so that the allocation's effect can be read alone",
    )  # fmt: skip
    patch_saving: float = option(
        0.1, source="reconstruction", effect="row",
        note="share of the allocation's BitOPs that patch-wise widths save; it sets the share of patches",
    )  # fmt: skip
    frontier_points: int = option(
        8192, source="reconstruction", effect="recipe",
        note="most points kept; the record states the bound on what pruning costs, 0 where the frontier is exact",
    )  # fmt: skip
    draw: int = option(0, source="baseline", effect="recipe", note="number of a random allocation")
    compare_search: bool = option(
        False, source="issue", effect="recipe", note="runs both searches and records their seconds"
    )

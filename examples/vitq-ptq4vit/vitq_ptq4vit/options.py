"""Options of PTQ4ViT; the defaults are its released configuration, but for what cannot be what its paper means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitq.options import option

README = "README of the released code (commit b42c790)"


@dataclass(frozen=True)
class Options:
    """Twin grids after softmax and GELU, scales by the least Hessian-guided distance.

    Attributes:
        metric: what a scale is judged by: squared error weighted by gradients, or the cosine of Base PTQ.
        gradient: which loss the weights of the Hessian-guided distance come from.
        softmax: grid of attention: twin, the twin grid as the released code computes it, or one uniform grid.
        gelu: grid of the MLP's activation: twin with any positive step, with one that is the negative step shifted, or
            one uniform grid.
        low, high: the search runs over multiples of the starting scale from low to high.
        candidates: how many multiples are tried; of candidates + 1 that divide the range the last is not.
        rounds: how often weight and input, or left and right operand, are searched in turn.
    """

    metric: Literal["hessian", "cosine"] = option(
        "hessian", source=f"paper; cosine is Base PTQ in the {README}", effect="row"
    )
    gradient: Literal["sampled", "released"] = option(
        "sampled",
        source="the suite's: cross-entropy with labels drawn from the model's own softmax, the Fisher diagonal",
        effect="row",
        note="released compares the FP model with itself, so that its gradient is rounding noise",
    )
    softmax: Literal["twin", "released", "uniform"] = option(
        "twin",
        source=f"paper, abstract and {README}; uniform is a row of its ablation",
        effect="row",
        note="the released code adds the two ranges instead of choosing one",
    )
    gelu: Literal["twin", "shifted", "uniform"] = option(
        "twin",
        source=f"released code; the {README} has steps that differ by a power of two; uniform is a row of its ablation",
        effect="row",
    )
    low: float = option(0.01, source=f"released code; the {README} says 0", effect="recipe")
    high: float = option(1.2, source="released code", effect="recipe")
    candidates: int = option(100, source="released code; README: 20 suffice", effect="recipe")
    rounds: int = option(3, source="released code; README: more than one changes less than 0.05", effect="recipe")

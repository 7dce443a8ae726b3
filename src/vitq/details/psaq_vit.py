"""What PSAQ-ViT says of its work: how images were made, how their losses fell, and the ranges of residual sums."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from vitq import details

Ranges = dict[str, tuple[float, float]]
"""The range [min, max] of each residual sum by its path in the part that is quantized."""
Curve = list[float | None]
"""A value at each of some iterations, None before the term joined."""


class Sparse(BaseModel):
    """A table that leaves out the fields that are None by default: what a run has nothing to say of is not there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _said(self, every: SerializerFunctionWrapHandler) -> dict[str, Any]:
        known = type(self).model_fields
        return {k: v for k, v in every(self).items() if v is not None or known[k].is_required()}


class LossCurves(Sparse):
    """Loss terms before weighting at some iterations (from 1), about 100 at most; `total` is what was minimized.

    `one_hot` is PSAQ-ViT's alone and `difference`, of teacher and student, V2's.
    """

    iteration: list[int]
    entropy: Curve | None = None
    one_hot: Curve | None = None
    total_variation: Curve | None = None
    difference: Curve | None = None
    total: Curve | None = None

    def terms(self) -> dict[str, Curve]:
        """The curves that there are, by their term, the total last."""
        curves = (self.entropy, self.one_hot, self.total_variation, self.difference, self.total)
        names = ("entropy", "one_hot", "total_variation", "difference", "total")
        return {name: curve for name, curve in zip(names, curves, strict=True) if curve is not None}


class Facts(Sparse):
    """What was drawn for generated images: the target of their total variation, scaled to the batch's shape."""

    total_variation_target: float


class Recipe(Sparse):
    """The options that images were optimized with; see `vitq.methods.psaq_vit.options.ImageRecipe`."""

    images: int
    iterations: int
    lr: float | None
    bandwidth: float
    points: int
    entropy_weight: float
    one_hot_weight: float
    tv_weight: float
    tv_low: float
    tv_high: float
    warmup: float
    jitter_first: int
    jitter_second: int
    flip: float
    drop_token: Literal["first", "class"]


class Images(Sparse, details.Details):
    """What both versions say of images that were generated; all None where they were not.

    `images` is how many there were, None for the real calibration set; `curves` their losses, `facts` what was drawn,
    `recipe` how they were optimized.
    """

    images: int | None
    curves: LossCurves | None = None
    facts: Facts | None = None
    recipe: Recipe | None = None
    residual_ranges: Ranges


class Seconds(Sparse):
    """Wall time of making images and of calibration."""

    images: float
    calibrate: float


class Details(Images):
    """What set the ranges, whether residual sums are quantized, and how long it took."""

    calibration: Literal["generated", "gaussian", "real"]
    residual: Literal["quantized", "fp"]
    seconds: Seconds

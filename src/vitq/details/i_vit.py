"""What I-ViT says of its work: how training went, and how far each operator is from the real function."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from vitq import details


class Curve(BaseModel):
    """One form of one operator against the real function over its input range.

    Attributes:
        operator: `softmax`, `gelu`, `layernorm` or `requantization`.
        variant: the operator's form, its arithmetic and, where it has one, its width.
        unit: what the errors are counted in.
        max_error: largest absolute error over the whole range.
        mean_error: mean absolute error over the whole range.
        x: points of the curve, at most 65.
        error: the operator less the real function at each point.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    operator: str
    variant: str
    unit: str
    max_error: float
    mean_error: float
    x: list[float]
    error: list[float]


class Epoch(BaseModel):
    """One epoch of training: its number, the mean loss, and the last learning rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    epoch: float
    loss: float
    lr: float


class Details(details.Details):
    """How much was read, how training went, and the operators' errors.

    Attributes:
        calibration_batches: number of batches that the ranges were calibrated on.
        training: an entry an epoch; none after post-training quantization.
        operators: the curves, at the median scale of the model's own softmax and GELU inputs.
    """

    calibration_batches: int
    training: list[Epoch]
    operators: list[Curve]

"""What RepQ-ViT says of its work."""

from __future__ import annotations

from vitq import details


class Details(details.Details):
    """How much was read, and what became of the LayerNorms.

    Attributes:
        calibration_batches: forward passes of calibration that were made.
        reparameterized_layernorms: LayerNorms whose scale and shift were moved into the layer that they feed.
        constant_channels: channels of those LayerNorms that have one value, left out of the mean grids.
        layernorm_zero_points: smallest and largest zero point of the inputs that LayerNorms feed, where these have one
            grid a tensor: in the codes' range, unless a channel far from zero drew one out of it. None elsewhere.
    """

    calibration_batches: int
    reparameterized_layernorms: int
    constant_channels: int
    layernorm_zero_points: tuple[float, float] | None

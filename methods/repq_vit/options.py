"""Options of RepQ-ViT; the defaults are what its released code does (commit a160561)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitq.options import option


@dataclass(frozen=True)
class Options:
    """What the released code does by default.

    Attributes:
        log_code_overflow: what becomes of attention below the log grid's last code: 0 (released) or that code (paper).
        rounded_zero_point: round the mean zero point of the reparameterized LayerNorm.
        layernorm: grid of LayerNorm's output: reparameterized, per channel left as it is, or per tensor from the start.
        softmax: grid of attention.
        shared_layers: whether a layer that runs several times an image (an RPN's over the levels of a pyramid, a
            cascade's) is calibrated on all of its inputs or on the first alone.
        padding: what Swin's padding after a LayerNorm becomes when that norm is reparameterized: the value that zero
            maps to, so that the function in floating point stays, or zero, as the released detection code leaves it.
    """

    log_code_overflow: Literal["zero", "clip"] = option(
        "zero",
        source="released code (commit a160561) sets log codes of 2^b and more to zero",
        effect="row",
        note="the paper clips them to 2^b-1; with zero there are 2^b levels and a zero, 17 values at 4 bit",
    )
    rounded_zero_point: bool = option(
        False,
        source="released code takes the plain mean of the per-channel zero points",
        effect="row",
        note="rounded, per-tensor and per-channel grids agree exactly before weights are quantized again",
    )
    layernorm: Literal["reparam", "channel", "layer"] = option(
        "reparam",
        source="paper; channel and layer are rows of its ablation",
        effect="row",
        note="channel is the grid that reparam starts from and needs per-channel arithmetic; layer is one plain grid",
    )
    softmax: Literal["log_sqrt2", "log2", "uniform"] = option(
        "log_sqrt2", source="paper; log2 is a row of its ablation, uniform the plain alternative", effect="row"
    )
    shared_layers: Literal["all", "first"] = option(
        "all",
        source="the suite's; the released detection code fixes a grid at its first use, an RPN's by the first level",
        effect="row",
        note="first is what the released detection code does",
    )
    padding: Literal["exact", "released"] = option(
        "exact",
        source="the suite's; the released detection code pads with zeros, which the rewritten norm no longer means",
        effect="row",
        note="only models whose windows do not divide their feature maps pad: Swin on images of any size",
    )

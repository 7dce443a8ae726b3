"""Options of FQ-ViT; the defaults are its released configuration with both of the paper's parts on (8/8/4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitq.options import option

README = "README of the released code (commit 5daf591)"


@dataclass(frozen=True)
class Options:
    """What the released code does with power-of-two factor and log-int-softmax on.

    Attributes:
        ptf: power-of-two factors for the inputs of LayerNorms, and integer LayerNorm after them.
        softmax: log-int-softmax, or softmax in floating point on a uniform grid.
        attention_bits: width of the attention map; None is 4 for log-int-softmax, the activations' width otherwise.
        layernorm: LayerNorms in the integer formula, or in floating point on quantized inputs.
        observer: how ranges of activations are found; weights are always min-max.
        log_code_overflow: what becomes of attention below the last code.
        calibration_softmax: whether ranges of the last calibration batch are taken behind log-int-softmax.
        image: whether an image whose mean and std are 0.5 is quantized.
    """

    ptf: bool = option(True, source="paper; off is a baseline of its tables", effect="row")
    softmax: Literal["lis", "uniform"] = option(
        "lis",
        source="paper; uniform is its 8/8/8 row",
        effect="row",
        note="the published 8/8/8 row has factors and no log-int-softmax",
    )
    attention_bits: int | None = option(
        None,
        source="released configurations: 4 with log-int-softmax, 8 without",
        effect="row",
        note="log-int-softmax at 8 bits has no published row",
    )
    layernorm: Literal["integer", "float"] = option(
        "integer", source="released code; integer only where factors are on", effect="row"
    )
    observer: Literal["minmax", "ema", "percentile", "omse"] = option(
        "minmax", source=f"{README}: min-max for its own rows, the others for its baselines", effect="row"
    )
    log_code_overflow: Literal["zero", "clip"] = option(
        "zero",
        source="released code; a second-hand account of the paper has clip",
        effect="row",
        note="with zero there are 2^b powers and a zero, 17 values at 4 bit",
    )
    calibration_softmax: Literal["released", "float"] = option(
        "released",
        source="released code: its input's scale exists by the last batch, so that softmax runs quantized there",
        effect="row",
    )
    image: Literal["released", "quantized"] = option(
        "released",
        source="released code: the image is quantized for DeiT and Swin, and not for ViT, whose pixels are 8 bits",
        effect="row",
        note="a model is taken for a ViT by mean and std of 0.5",
    )

    @property
    def map_bits(self) -> int | None:
        """The width of the attention map, None for the activations'."""
        return self.attention_bits if self.attention_bits is not None else 4 if self.softmax == "lis" else None

    @property
    def integer_layernorm(self) -> bool:
        """Whether LayerNorms are computed in integers: only where their inputs have factors."""
        return self.ptf and self.layernorm == "integer"

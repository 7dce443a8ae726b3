"""Options of I-ViT: defaults are the paper's, or the released code's where the paper is silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitq.errors import MethodInputError
from vitq.methods.i_vit.names import OPERATORS, Arithmetic, GeluKind, NormKind, Rounding, SoftmaxKind
from vitq.options import option

PAPER_AND_CODE = "paper; released code"
ABLATION = "paper; ablation, Table 2"
CODE = "released code"


@dataclass(frozen=True)
class Options:
    """What can be chosen; MethodInputError for values outside what a field says.

    Attributes:
        arithmetic: `paper`, exact integers, or `release`, the released code's float32 simulation.
        epochs: of quantization-aware training; 0 is post-training quantization.
        lr: peak learning rate of AdamW with cosine decay.
        schedule: of the rate: `released`, once an epoch to lr/15, or `smooth`, every step to 0.
        weight_decay: of AdamW; biases and norms are spared.
        drop_path: rate at the last block, rising linearly from 0 at the first; in training only.
        distill: train on the FP model's outputs instead of labels.
        softmax: Shiftmax, or what the ablation puts in its place.
        gelu: ShiftGELU, or I-BERT's polynomial.
        layernorm: I-LayerNorm, or the L1 norm.
        rounding: of dyadic requantization; `floor` is the paper's printed formula.
        softmax_bits: width of the probabilities; none means the arithmetic's own.
        paper_operators: operators that take the paper's form within `release`, to see what each costs.
    """

    arithmetic: Arithmetic = option(
        "paper", source=PAPER_AND_CODE, effect="row",
        note="paper is exact int32/int64 and deployable; release is the released method, node by node and gradient by "
        "gradient, in float32 as its code simulates it, for comparing with the published accuracies",
    )  # fmt: skip
    epochs: int = option(
        30, source="released code: 30, 60 or 90 epochs", effect="recipe",
        note="0 is post-training quantization, which the paper does not report",
    )  # fmt: skip
    lr: float = option(1e-6, source="released code, default; 2e-7 to 2e-6 by model", effect="recipe")
    schedule: Literal["released", "smooth"] = option(
        "released", source=CODE, effect="recipe",
        note="released steps once an epoch to lr/15 (epoch e > 0 at the rate of e - 1, as the scheduler is called "
        "there); smooth steps with every batch to 0",
    )  # fmt: skip
    weight_decay: float = option(
        1e-4, source=CODE, effect="recipe", note="biases and norms are spared, as timm's optimizer factory does"
    )
    drop_path: float = option(0.1, source=CODE, effect="recipe")
    distill: bool = option(
        False, source="the paper trains on labels", effect="recipe", note="true trains on the FP model's outputs"
    )
    softmax: SoftmaxKind = option(
        "shiftmax", source=ABLATION, effect="row", note="polynomial is I-BERT's, log_int is FQ-ViT's"
    )
    gelu: GeluKind = option("shift", source=ABLATION, effect="row")
    layernorm: NormKind = option("integer", source=ABLATION, effect="row")
    rounding: Rounding = option(
        "nearest", source="released code; the paper prints (b*I) >> c, which is floor", effect="row",
        note="nearest adds 2^(c-1) before the shift",
    )  # fmt: skip
    softmax_bits: int | None = option(
        None, source="paper: 8; released code: 16 in ViT and DeiT, 8 in Swin", effect="row",
        note="none takes the arithmetic's own",
    )  # fmt: skip
    paper_operators: tuple[str, ...] = option(
        (), source="ours", effect="row",
        note="operators that take the paper's form within release, for attributing the difference",
    )  # fmt: skip

    def __post_init__(self) -> None:
        unknown = sorted(set(self.paper_operators) - set(OPERATORS))
        if unknown:
            raise MethodInputError(f"paper_operators holds {unknown}; known: {', '.join(OPERATORS)}")
        if self.softmax_bits not in (None, 8, 16):
            raise MethodInputError(f"softmax_bits is {self.softmax_bits}: give 8, 16 or none")
        if self.epochs < 0 or not 0 <= self.drop_path < 1:
            raise MethodInputError(
                f"epochs {self.epochs}, drop_path {self.drop_path}: want epochs >= 0, 0 <= drop_path < 1"
            )

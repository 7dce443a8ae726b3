"""Which form every operator of I-ViT takes: the arithmetic, what replaces it in an ablation, and the code widths."""

from __future__ import annotations

from dataclasses import dataclass

from vitq.methods.i_vit.names import Arithmetic, GeluKind, NormKind, Operator, Rounding, SoftmaxKind

RESIDUAL_GRID_BITS = 20
"""Width of the grid over the observed range of the residual stream in the paper's arithmetic, held in INT32."""
RESIDUAL_BITS = 24
"""Where those codes saturate: 16 times the observed range, and I-LayerNorm's sums of squares still fit int64."""
SUM_HEADROOM = 6
"""An operand of a sum saturates this many bits above the sum, at 31 bits at most, so that adding never overflows."""


@dataclass(frozen=True)
class Width:
    """Codes that saturate at `bits` bits on a grid that spends `grid` bits on the observed range."""

    grid: int
    bits: int

    @property
    def operand_bits(self) -> int:
        """Width at which an operand of a sum of this width saturates."""
        return min(self.bits + SUM_HEADROOM, 31)


@dataclass(frozen=True)
class Forms:
    """The arithmetic, the operators that take the paper's form within `release`, and the ablations."""

    arithmetic: Arithmetic = "paper"
    paper_operators: frozenset[str] = frozenset()
    softmax: SoftmaxKind = "shiftmax"
    gelu: GeluKind = "shift"
    layernorm: NormKind = "integer"
    rounding: Rounding = "nearest"
    softmax_bits: int | None = None

    def paper(self, operator: Operator) -> bool:
        """Whether an operator takes the paper's form."""
        return self.arithmetic == "paper" or operator in self.paper_operators

    def probability_bits(self, windowed: bool) -> int:
        """Width of the softmax output: 8 in the paper and in windows (Swin), 16 in the released ViT and DeiT."""
        if self.softmax == "log_int":
            return 16
        return self.softmax_bits or (8 if windowed or self.paper("softmax") else 16)

    @property
    def activation(self) -> Width:
        """INT8 activations."""
        return Width(8, 8)

    @property
    def residual(self) -> Width:
        """The residual stream: INT32 in the paper, 16 bits in the released code."""
        return Width(RESIDUAL_GRID_BITS, RESIDUAL_BITS) if self.paper("residual") else Width(16, 16)

    @property
    def merged(self) -> Width:
        """Swin's patch embedding before its norm, and its merged patches: 8 bits in the released code."""
        return self.residual if self.paper("residual") else self.activation

    @property
    def branch(self) -> Width | None:
        """What enters a residual sum: INT32 accumulators in the paper, requantized to 16 bits in the released code."""
        return None if self.paper("residual") else Width(16, 16)

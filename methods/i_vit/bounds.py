"""How wide every intermediate of the paper's arithmetic can get, by analysis: no int8 input and no scale overflows.

Scales never enter a bound but through `I_0`, which `operators_paper.unit` holds within 1..2^23, and through dyadic
numbers, which have 31 bits whatever the ratio. The tests run every operator at these limits against Python's unbounded
integers.
"""

from __future__ import annotations

from typing import NamedTuple

from vitq.methods.i_vit import operators_paper as paper
from vitq.methods.i_vit.dyadic import MANTISSA_BITS
from vitq.methods.i_vit.forms import RESIDUAL_BITS, RESIDUAL_GRID_BITS, Width

MAX_INPUTS = 2**16
"""Widest dot product of a linear layer (ViT-B's fc2 has 3072)."""
MAX_TOKENS = 2**14
"""Longest row of a softmax (a 2048 x 2048 image in patches of 16; windows have 49 tokens)."""
MAX_CHANNELS = 2**13
"""Widest LayerNorm (Swin-B's last patch merging has 2048)."""
MASK = 2**30
INT8 = 2**7


class Bound(NamedTuple):
    """The largest magnitude of an intermediate and the bits of the type that holds it, sign included."""

    operator: str
    intermediate: str
    magnitude: int
    container: int

    @property
    def bits(self) -> int:
        """Bits that the magnitude needs with its sign."""
        return self.magnitude.bit_length() + 1

    @property
    def fits(self) -> bool:
        """Whether it cannot overflow."""
        return bool(self.magnitude <= 2 ** (self.container - 1) - 1)


def analysis(inputs: int = MAX_INPUTS, tokens: int = MAX_TOKENS, channels: int = MAX_CHANNELS) -> list[Bound]:
    """Bounds for dot products of `inputs` terms, softmax rows of `tokens` and norms over `channels`."""
    return [*_linear(inputs, tokens), *_softmax(tokens), *_gelu(), *_norm(channels)]


def _linear(inputs: int, tokens: int) -> list[Bound]:
    accumulator = 2**31 - 1  # the bias is held to 2^31 - 1 - 2^14 * inputs
    mantissa = 2**MANTISSA_BITS - 1
    rounding = 2**61  # 2^(c-1), c <= 62
    operand = 2 ** (Width(RESIDUAL_GRID_BITS, RESIDUAL_BITS).operand_bits - 1)
    return [
        Bound("linear", "sum of INT8 products without bias", inputs * INT8 * INT8, 32),
        Bound("linear", "accumulator with bias", accumulator, 32),
        Bound("matmul", "attention times values, int8 operands", tokens * INT8 * INT8, 32),
        Bound("matmul", "16-bit probabilities times values, rows that sum to at most 1", 2**15 * INT8, 32),
        Bound("requantization", "b * I + 2^(c-1)", accumulator * mantissa + rounding, 64),
        Bound("residual", "sum of both rescaled operands", 2 * operand, 64),
        Bound("residual", "codes after the clamp", 2 ** (RESIDUAL_BITS - 1), 32),
    ]


def _softmax(tokens: int) -> list[Bound]:
    exponential = paper.UNIT_LIMIT << paper.SOFTMAX_SHIFT
    return [
        Bound("softmax", "masked logit", MASK + INT8, 32),
        Bound("softmax", "I_p = I + (I>>1) - (I>>4)", 3 * (MASK + 2 * INT8) // 2 + 2, 64),
        Bound("softmax", "exponential", exponential, 64),
        Bound("softmax", "sum of exponentials", exponential * tokens, 64),
        Bound("softmax", "floor(2^M / sum) * exponential", 2**paper.DIVISION_BITS, 64),
    ]


def _gelu() -> list[Bound]:
    exponential = 2**paper.GELU_EXP_BITS
    return [
        Bound("gelu", "I_p = I + (I>>1) + (I>>3) + (I>>4)", 2 * INT8, 64),
        Bound("gelu", "sum of both exponentials", 2 * exponential, 64),
        Bound("gelu", "floor(2^M / sum) * exponential", 2**paper.DIVISION_BITS, 64),
        Bound("gelu", "I * sigmoid", INT8 * INT8, 64),
    ]


def _norm(channels: int) -> list[Bound]:
    code = 2 ** (RESIDUAL_BITS - 1)
    difference = 2 * code
    squares = difference * difference * channels
    normal = 2 ** (paper.NORM_BITS + 1)  # |I - mean| < root + 1 <= 2 * root
    return [
        Bound("layernorm", "2 * sum + C", 2 * code * channels + channels, 64),
        Bound("layernorm", "sum of squares", squares, 64),
        Bound("layernorm", "(I - mean) * floor(2^60 / root)", 2**61, 64),
        Bound("layernorm", "normalized value", normal, 32),
        Bound("layernorm", "I * b + beta + 2^(c-1)", normal * 2**MANTISSA_BITS + 2 * 2**61, 64),
    ]

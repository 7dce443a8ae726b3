"""What the paper's ablation puts in place of Shiftmax, ShiftGELU and I-LayerNorm, as integer operators, and those two.

An operator is three functions: integer constants from the input's scale, the operator itself on int64 tensors, and the
scale of its output. I-BERT: arXiv 2101.01321; FQ-ViT: arXiv 2111.13824; L1 norm: arXiv 1802.09769.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vitq.methods.i_vit import operators_paper as paper

Constants = tuple[int | Tensor, ...]


@dataclass(frozen=True)
class IntegerOperator:
    """Constants from a scale, the operator `apply(codes, constants, bits)`, and the scale of its output."""

    constants: Callable[[float], tuple[int, ...]]
    apply: Callable[[Tensor, Constants, int], Tensor]
    out_scale: Callable[[float, int], float]


EXP_A, EXP_B, EXP_C = 0.3585, 1.353, 0.344
"""I-BERT: exp(p) ~ a (p + b)^2 + c on (-ln 2, 0]."""
ERF_A, ERF_B = -0.2888, -1.769
"""I-BERT: erf(x) ~ sgn(x) (a (min(|x|, -b) + b)^2 + 1)."""
GELU_FACTOR_BITS = 15
"""Bits that the polynomial GELU's factor 1 + erf keeps, so that its product with an INT8 code fits int32."""
LOG_LEVELS = 15
"""FQ-ViT's 4-bit log2 codes: 0 to 15."""


def exp_constants(scale: float) -> tuple[int, ...]:
    """floor(ln2/S), floor(b/S), floor(c/(a S^2)), each within what int64 products of them allow."""
    scale = max(scale, 1 / paper.UNIT_LIMIT)
    ln2 = max(math.floor(math.log(2) / scale), 1)
    return ln2, math.floor(EXP_B / scale), max(math.floor(EXP_C / (EXP_A * scale**2)), 1)


def polynomial_exp(codes: Tensor, constants: Constants) -> Tensor:
    """I-BERT's i-exp of I <= 0 (Algorithm 2): exp(S*I) as integers of scale a S^2."""
    ln2, b, c = constants
    quotient = torch.div(-codes, ln2, rounding_mode="floor")
    remainder = codes + quotient * ln2
    return ((remainder + b) ** 2 + c) >> quotient.clamp(max=paper.DIVISION_BITS)


def polynomial_softmax(codes: Tensor, constants: Constants, bits: int) -> Tensor:
    """Softmax over the last dimension with I-BERT's exponential; scale 1/2^(bits-1)."""
    exponential = polynomial_exp(codes - codes.amax(-1, keepdim=True), constants)
    return paper.int_div(exponential, exponential.sum(-1, keepdim=True), bits)


def log_int_softmax(codes: Tensor, constants: Constants, bits: int) -> Tensor:
    """FQ-ViT's log-int-softmax: probabilities 2^-q with 4-bit q = round(log2(sum/exp)), 0 where q exceeds 15.

    sum/exp is rounded to an integer; its log2 is the position of the first bit, plus one if the next bit is set.
    The result is 2^(15-q) at scale 1/2^15, so that the product with it is the shift of FQ-ViT.
    """
    exponential = polynomial_exp(codes - codes.amax(-1, keepdim=True), constants)
    total = exponential.sum(-1, keepdim=True)
    safe = exponential.clamp(min=1)
    ratio = torch.div(total + (safe >> 1), safe, rounding_mode="floor")
    position = paper.bit_length(ratio) - 1
    level = position + ((ratio >> (position - 1).clamp(min=0)) & 1) * (position > 0)
    power = torch.ones_like(level) << (LOG_LEVELS - level).clamp(0, bits - 1)
    limit = 2 ** (bits - 1) - 1
    return torch.where((level > LOG_LEVELS) | (exponential == 0), 0, power).clamp(max=limit)


def gelu_constants(scale: float) -> tuple[int, ...]:
    """floor(b/S'), floor(1/(|a| S'^2)) of I-BERT's i-erf with S' = S/sqrt(2), and the shift that leaves 15 bits."""
    inner = max(scale / math.sqrt(2), 1 / paper.UNIT_LIMIT)
    one = max(math.floor(1 / (-ERF_A * inner**2)), 1)
    return math.floor(-ERF_B / inner), one, max(one.bit_length() + 1 - GELU_FACTOR_BITS, 0)


def polynomial_gelu(codes: Tensor, constants: Constants, bits: int) -> Tensor:  # noqa: ARG001
    """I-BERT's i-GELU (Algorithm 1): I * (erf + 1), with the factor shifted right to 15 bits."""
    b, one, shift = constants
    clipped = torch.minimum(codes.abs(), torch.as_tensor(b, device=codes.device))
    erf = codes.sign() * (one - (clipped - b) ** 2)
    return codes * ((erf + one) >> shift)


def polynomial_gelu_scale(scale: float, bits: int) -> float:  # noqa: ARG001
    """S * |a| S'^2 * 2^shift / 2."""
    inner = max(scale / math.sqrt(2), 1 / paper.UNIT_LIMIT)
    return scale * -ERF_A * inner**2 * 2.0 ** gelu_constants(scale)[2] / 2


def _unit(scale: float) -> tuple[int, ...]:
    return (paper.unit(scale),)


def _gelu_unit(scale: float) -> tuple[int, ...]:
    one = paper.unit(scale)
    return one, paper.gelu_shift(one)


def _shift_gelu(codes: Tensor, constants: Constants, bits: int) -> Tensor:
    return paper.shift_gelu(codes, constants[0], constants[1], bits)


SOFTMAX = {
    "shiftmax": IntegerOperator(_unit, lambda x, c, bits: paper.shiftmax(x, c[0], bits), lambda _, b: 2.0 ** (1 - b)),
    "polynomial": IntegerOperator(exp_constants, polynomial_softmax, lambda _, bits: 2.0 ** (1 - bits)),
    "log_int": IntegerOperator(exp_constants, log_int_softmax, lambda _, bits: 2.0 ** (1 - bits)),
}
GELU = {
    "shift": IntegerOperator(_gelu_unit, _shift_gelu, lambda scale, bits: scale * 2.0 ** (1 - bits)),
    "polynomial": IntegerOperator(gelu_constants, polynomial_gelu, polynomial_gelu_scale),
}


def normalize_l1(codes: Tensor) -> Tensor:
    """(I - mean) / sum|I - mean| with 24 fraction bits; times C / sqrt(pi/2) it is LayerNorm of a normal input."""
    difference = paper.centred(codes)
    total = difference.abs().sum(-1, keepdim=True).clamp(min=1)
    factor = torch.div(torch.full_like(total, 2**60), total, rounding_mode="floor")
    return (difference * factor) >> (60 - paper.NORM_BITS)


@dataclass(frozen=True)
class IntegerNorm:
    """A normalization of int64 codes over the last dimension, and the worth of its output's unit for C channels."""

    apply: Callable[[Tensor], Tensor]
    unit: Callable[[int], float]


NORM = {
    "integer": IntegerNorm(paper.normalize, lambda c: math.sqrt(c) / 2**paper.NORM_BITS),
    "l1": IntegerNorm(normalize_l1, lambda c: c / math.sqrt(math.pi / 2) / 2**paper.NORM_BITS),
}

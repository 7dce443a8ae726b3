"""The operators of the paper on integer tensors: int64 in, int64 out, no floating point anywhere.

A scale enters only as integers made from it beforehand (`I_0 = round(1/S)`, dyadic numbers). `>>` is the arithmetic
shift, so it floors negative numbers as the paper's does. Widths of every intermediate: `bounds.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

SOFTMAX_SHIFT = 15
"""N of ShiftExp within Shiftmax; the paper says only "sufficiently large", the value is the released code's."""
GELU_EXP_BITS = 43
"""Bits of ShiftGELU's largest exponential, I_0 << N: as many as leave IntDiv's quotient 18 bits of its own."""
DIVISION_BITS = 62
"""M of IntDiv: the largest for which floor(2^M/b) * a with a <= b fits int64."""
UNIT_LIMIT = 2**23
"""Largest I_0: scales are at least 2^-23, float32's epsilon, as the range observers clamp them."""
NORM_BITS = 24
"""Fraction bits F of the normalized value that I-LayerNorm hands to its affine part."""
NEWTON_STEPS = 10


def unit(scale: float) -> int:
    """I_0 = round(1/S), the integer that stands for 1; between 1 and 2^23 so that it divides and never overflows."""
    return min(max(round(1.0 / scale), 1), UNIT_LIMIT)


def gelu_shift(one: int) -> int:
    """N of ShiftExp within ShiftGELU: 43 bits less those of I_0, so that exp(-29) is still not 0 at I_0 = 16.

    The released code's 23 makes a row whose largest input exceeds 9 lose the sign of its other inputs.
    """
    return GELU_EXP_BITS - one.bit_length()


def shift_exp(codes: Tensor, one: int | Tensor, shift: int | Tensor) -> Tensor:
    """ShiftExp: exp(S*I) of I <= 0 as integers of scale S/2^shift.

    I_p = I + (I>>1) - (I>>4) replaces log2(e) by 1.4375; I_p = -q*I_0 - r' with 0 <= r' < I_0; 2^(-r'*S) is replaced
    by the line 1 - r'*S/2. Where q exceeds `shift` the paper's left shift turns into a right one.
    """
    power = codes + (codes >> 1) - (codes >> 4)
    quotient = torch.div(-power, one, rounding_mode="floor")
    remainder = -power - quotient * one
    line = ((-remainder) >> 1) + one
    return (line << shift) >> quotient.clamp(max=DIVISION_BITS)


def int_div(numerator: Tensor, denominator: Tensor, bits: int) -> Tensor:
    """IntDiv: (floor(2^M/b) * a) >> (M-(k-1)) of 0 <= a <= b; scale 1/2^(k-1), clamped to k bits; 0/0 is 0."""
    denominator = denominator.clamp(min=1)
    factor = torch.div(torch.full_like(denominator, 2**DIVISION_BITS), denominator, rounding_mode="floor")
    return ((factor * numerator) >> (DIVISION_BITS - (bits - 1))).clamp(max=2 ** (bits - 1) - 1)


def shiftmax(codes: Tensor, one: int | Tensor, bits: int = 8) -> Tensor:
    """Shiftmax over the last dimension (Algorithm 1): codes of scale S to probabilities of scale 1/2^(bits-1)."""
    exponential = shift_exp(codes - codes.amax(-1, keepdim=True), one, SOFTMAX_SHIFT)
    return int_div(exponential, exponential.sum(-1, keepdim=True), bits)


def shift_gelu(codes: Tensor, one: int | Tensor, shift: int | Tensor, bits: int = 8) -> Tensor:
    """ShiftGELU, x * sigmoid(1.702 x) (Algorithm 2): codes of scale S to codes of scale S/2^(bits-1).

    I_p = I + (I>>1) + (I>>3) + (I>>4) replaces 1.702 by 1.6875. The maximum over the last dimension is taken with 0:
    ShiftExp is defined for I <= 0, and -max(I_p) would be positive in a row of negative values. `shift` is N. Where a
    row's maximum is so large that both exponentials vanish the sigmoid is 0.
    """
    scaled = codes + (codes >> 1) + (codes >> 3) + (codes >> 4)
    largest = scaled.amax(-1, keepdim=True).clamp(min=0)
    numerator = shift_exp(scaled - largest, one, shift)
    return codes * int_div(numerator, numerator + shift_exp(-largest, one, shift), bits)


def bit_length(value: Tensor) -> Tensor:
    """Bits of non-negative int64 values, by bisection: 0 of 0, 1 of 1, 3 of 7."""
    bits = torch.zeros_like(value)
    for step in (32, 16, 8, 4, 2, 1):
        above = (value >> step) > 0
        bits = torch.where(above, bits + step, bits)
        value = torch.where(above, value >> step, value)
    return bits + value


def int_sqrt(value: Tensor) -> Tensor:
    """Integer square root by 10 Newton steps O = (O + floor(V/O)) >> 1 from O_0 = 2^floor(bits(V)/2) .

    The start is within a factor of 2 of the root, so the steps converge for every int64; the result is the root
    rounded down or one more, and at least 1 so that it can divide.
    """
    root = torch.ones_like(value) << (bit_length(value) >> 1)
    for _ in range(NEWTON_STEPS):
        root = ((root + torch.div(value, root, rounding_mode="floor")) >> 1).clamp(min=1)
    return root


def centred(codes: Tensor) -> Tensor:
    """I - round(mean(I)) over the last dimension, in integers."""
    count = codes.shape[-1]
    mean = torch.div(2 * codes.sum(-1, keepdim=True) + count, 2 * count, rounding_mode="floor")
    return codes - mean


def normalize(codes: Tensor) -> Tensor:
    """The integer part of I-LayerNorm: (I - mean) / sqrt(sum of squares) with 24 fraction bits, last dimension.

    Codes of up to 25 bits, up to 2^13 channels. LayerNorm's output is this times sqrt(C)/2^24; the factor, gamma and
    beta are folded into the dyadic requantization, so gamma may be zero or negative.
    """
    difference = centred(codes)
    root = int_sqrt((difference * difference).sum(-1, keepdim=True))
    factor = torch.div(torch.full_like(root, 2**60), root, rounding_mode="floor")
    return (difference * factor) >> (60 - NORM_BITS)


def _padded(size: int, multiple: int, least: int = 0) -> int:
    return max(-(-size // multiple) * multiple, least) - size


def matmul(left: Tensor, columns: Tensor) -> Tensor:
    """int8 [n, k] times the transpose of int8 [m, k], whose rows are the product's columns -> int32 [n, m], exact.

    The right operand so lies column by column, as CUDA's integer kernel wants it everywhere (PyTorch issue 169956), and
    is zero-padded to the shapes which that takes.
    """
    (n, k), m = left.shape, columns.shape[0]
    extra_n, extra_k, extra_m = _padded(n, 8, 24), _padded(k, 8), _padded(m, 8)
    if left.is_cuda and (extra_n or extra_k or extra_m):
        left, columns = pad(left, (0, extra_k, 0, extra_n)), pad(columns, (0, extra_k, 0, extra_m))
    return torch._int_mm(left.contiguous(), columns.contiguous().t())[:n, :m]


def linear(codes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """int8 [..., in], int8 [out, in], int32 [out] -> int32 [..., out] (paper)."""
    out = matmul(codes.reshape(-1, codes.shape[-1]), weight)
    out = out if bias is None else out + bias
    return out.reshape(*codes.shape[:-1], weight.shape[0])


def patchify(codes: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, C, H, W] -> [B, H/h, W/w, C*h*w], the patches of a convolution whose stride is its kernel."""
    b, c, height, width = codes.shape
    h, w = size
    x = codes.reshape(b, c, height // h, h, width // w, w).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(b, height // h, width // w, c * h * w)


def convolution(codes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Patch embedding: int8 [B, C, H, W], int8 [out, C, h, w] -> int32 [B, H/h, W/w, out]; the stride is the kernel."""
    return linear(patchify(codes, (weight.shape[2], weight.shape[3])), weight.flatten(1), bias)


EXACT_TERMS = 2**10
"""Products of two INT8 codes that float32 sums exactly in any order: 2^10 * 2^7 * 2^7 = 2^24."""


def product(left: Tensor, right: Tensor) -> Tensor:
    """Attention product: int8 [..., n, k] @ int8 [..., k, m] -> int32 [..., n, m], all windows and heads in one call.

    On the CPU in int32. CUDA has no batched integer product; there float32 carries the same integers.
    """
    if left.device.type in ("cpu", "meta"):
        return left.to(torch.int32) @ right.to(torch.int32)
    return float_product(left, right)


def float_product(left: Tensor, right: Tensor) -> Tensor:
    """`product` in float32, in parts of at most 2^10 terms that it sums exactly, which are added in int32.

    INT8 codes and their products fit TF32 and float32 without rounding.
    """
    total = None
    for start in range(0, left.shape[-1], EXACT_TERMS):
        end = start + EXACT_TERMS
        part = (left[..., start:end].float() @ right[..., start:end, :].float()).to(torch.int32)
        total = part if total is None else total + part
    assert total is not None
    return total


def wide_product(left: Tensor, right: Tensor) -> Tensor:
    """Non-negative 16-bit [..., n, k] @ int8 [..., k, m] -> int32, as two int8 products of the left's two bytes.

    left = 256*high + low + 128 with int8 high and low; int32 wraps around and the true sum, below 2^15 * 2^7 for rows
    that sum to one, is recovered exactly.
    """
    high, low = (left >> 8).to(torch.int8), ((left & 255) - 128).to(torch.int8)
    correction = 128 * right.to(torch.int32).sum(-2, keepdim=True, dtype=torch.int32)
    return 256 * product(high, right) + product(low, right) + correction

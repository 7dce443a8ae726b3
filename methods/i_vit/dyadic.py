"""Dyadic numbers b / 2^c: how a real ratio of scales becomes an integer multiplication and a shift (paper).

Every multiplier has 31 bits, so that a product with an int32 stays below 2^62; `bounds.py` has the analysis.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vitq.methods.i_vit.names import Rounding

MANTISSA_BITS = 31
MAX_SHIFT = 62


class Dyadic(NamedTuple):
    """Integers b (int32) and c (int32, 0..62) of the same shape: the ratio is b / 2^c."""

    multiplier: Tensor
    shift: Tensor


def dyadic(ratio: Tensor) -> Dyadic:
    """DN(ratio), elementwise: |b| in [2^30, 2^31), rounded half up; the ratio is a float64 tensor of any sign.

    A ratio of 2^31 and more becomes 2^31-1, which saturates every clamp of at most 31 bits just as the ratio would;
    one below 2^-32 becomes 0, which is what it makes of every int32.
    """
    mantissa, exponent = torch.frexp(ratio.double().abs())
    b = torch.floor(mantissa * 2**MANTISSA_BITS + 0.5).to(torch.int64)
    c = MANTISSA_BITS - exponent.to(torch.int64)
    carried = b == 2**MANTISSA_BITS
    b, c = torch.where(carried, b // 2, b), torch.where(carried, c - 1, c)
    b = torch.where(c < 0, 2**MANTISSA_BITS - 1, torch.where(c > MAX_SHIFT, 0, b))
    sign = torch.where(ratio < 0, -1, 1)
    return Dyadic((b * sign).to(torch.int32), c.clamp(0, MAX_SHIFT).to(torch.int32))


def multiply(codes: Tensor, number: Dyadic, rounding: Rounding) -> Tensor:
    """(b * I) >> c of int32 codes, in int64; `nearest` adds 2^(c-1) before the shift, `floor` is as printed."""
    product = codes.to(torch.int64) * number.multiplier
    shift = number.shift.to(torch.int64)
    if rounding == "nearest":
        product = product + ((torch.ones_like(shift) << shift) >> 1)
    return product >> shift


def requantize(codes: Tensor, number: Dyadic, bits: int, rounding: Rounding) -> Tensor:
    """Dyadic requantization to signed `bits`-bit codes (paper): clamp((b * I) >> c), int64."""
    return multiply(codes, number, rounding).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


class Affine(NamedTuple):
    """I-LayerNorm's gamma and beta as integers: (I * multiplier + bias) >> shift; int32 [C], int64 [C], int32 []."""

    multiplier: Tensor
    bias: Tensor
    shift: Tensor


def affine(slope: Tensor, offset: Tensor) -> Affine:
    """slope * I + offset, both float64 [C] in units of the output code, with one shift for all channels.

    The largest slope takes 31 bits, unless an offset of 2^61 / 2^shift or more asks for a smaller shift. Slopes may be
    zero or negative. What saturates here lies beyond every clamp of the output.
    """
    room = [float(MAX_SHIFT)]
    for values, bits in ((slope, MANTISSA_BITS), (offset, 61)):
        top = float(values.abs().max())
        room += [bits - math.frexp(top)[1]] if top > 0 else []
    shift = max(int(min(room)), 0)
    b = torch.round(slope.double() * 2.0**shift).clamp(-(2**MANTISSA_BITS - 1), 2**MANTISSA_BITS - 1)
    limit = 2.0**61 - 2**10  # the largest float64 steps below the limit stay below it as integers
    bias = torch.round(offset.double() * 2.0**shift).clamp(-limit, limit)
    return Affine(b.to(torch.int32), bias.to(torch.int64), torch.tensor(shift, dtype=torch.int32, device=slope.device))


def affine_requantize(codes: Tensor, constants: Affine, bits: int, rounding: Rounding) -> Tensor:
    """clamp((I * b + beta) >> c) of codes [..., C] below 2^30, int64."""
    total = codes.to(torch.int64) * constants.multiplier + constants.bias
    shift = constants.shift.to(torch.int64)
    if rounding == "nearest":
        total = total + ((torch.ones_like(shift) << shift) >> 1)
    return (total >> shift).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

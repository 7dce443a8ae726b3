# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""What is done row by row, in Triton: the image to codes of patches, I-LayerNorm, and ShiftGELU by a table."""

from __future__ import annotations

import triton
import triton.language as tl

from vitq.benchmarks.runtimes.gpu.products import held

ROUND = tl.constexpr(12582912.0)
"""1.5 * 2^23: adding and subtracting it rounds a float32 below 2^22 to the nearest even integer."""
MEANS = tl.constexpr(1 << 25)
"""More than any mean of codes of 24 bits: keeps a numerator positive, since Triton's division rounds towards 0."""
STREAM_BITS, MAX_CHANNELS = 24, 4096
"""Codes of so many bits differ from their mean by less than 2^24, and so many squares sum to less than 2^60."""


@triton.jit
def patches(
    images, scale, out, channels: tl.constexpr, height, width, down, across, ph: tl.constexpr, pw: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """clamp(round(x / S)) of float32 images [B, C, H, W] as int8, a row of C*ph*pw for each patch."""
    patch, size = tl.program_id(0), channels * ph * pw
    k = tl.arange(0, block)
    column, row, channel = k % pw, (k // pw) % ph, k // (pw * ph)
    image, y, x = patch // (down * across), (patch // across) % down, patch % across
    at = ((image * channels + channel) * height + y * ph + row) * width + x * pw + column
    codes = tl.div_rn(tl.load(images + at, k < size, 0.0), tl.load(scale))
    codes = tl.minimum(tl.maximum(codes, -128.0), 127.0)
    tl.store(out + patch * size + k, ((codes + ROUND) - ROUND).to(tl.int8), k < size)


@triton.jit
def digits(value, first: tl.constexpr):
    """The root of 0 <= V < 4^(first+1) <= 2^60, rounded down, as uint32: a bit at a time, the remainder in 32 bits.

    A remainder is at most twice the root so far, so that with V's next two bits it stays below 2^32.
    """
    remainder = (value * 0).to(tl.uint32)
    root = remainder
    for i in tl.static_range(first, -1, -1):
        remainder = (remainder << 2) | ((value >> (2 * i)).to(tl.uint32) & 3)
        trial = (root << 2) | 1
        more = remainder >= trial
        remainder = tl.where(more, remainder - trial, remainder)
        root = (root << 1) | more.to(tl.uint32)
    return root


@triton.jit
def root_of(value):
    """What ten Newton steps O = (O + floor(V/O)) >> 1 make of 0 <= V < 2^60: its root rounded down, at least 1.

    The root is found without a division. The steps stay at it but where V + 1 is a square, between whose root and one
    less they go back and forth: there they are taken themselves.
    """
    if value < 1 << 42:  # noqa: SIM108
        root = digits(value, 20).to(tl.int64)
    else:
        root = digits(value, 29).to(tl.int64)
    root = tl.maximum(root, 1)
    if (root + 1) * (root + 1) == value + 1:
        root = newton(value)
    return root


@triton.jit
def newton(value):
    """Ten Newton steps from 2^floor(bits(V)/2), at least 1 each."""
    bits, rest = value * 0, value
    for i in tl.static_range(6):
        above = (rest >> (32 >> i)) > 0
        bits = tl.where(above, bits + (32 >> i), bits)
        rest = tl.where(above, rest >> (32 >> i), rest)
    root = (value * 0 + 1) << ((bits + rest) >> 1)
    for _ in range(10):
        root = tl.maximum((root + value // root) >> 1, 1)
    return root


@triton.jit(do_not_specialize=["step"])
def layer_norm(
    stream, step, multiplier, bias, shift, high: tl.constexpr, out, channels: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    """I-LayerNorm to int8 of rows of the int32 stream that lie `step` apart; `bias` includes what rounds to nearest.

    A difference is at most the root, so that what is normalized has 24 bits and a sign. `high`: the shift is at least
    33, and an affine map's upper half decides.
    """
    row, j = tl.program_id(0), tl.arange(0, block)
    inside = j < channels
    codes = tl.load(stream + row * step + j, inside, 0)
    total = tl.sum(codes.to(tl.int64), 0)
    mean = (2 * total + channels + 2 * channels * MEANS) // (2 * channels) - MEANS
    difference = tl.where(inside, codes - mean.to(tl.int32), 0)
    root = root_of(tl.sum(difference.to(tl.int64) * difference.to(tl.int64), 0))
    factor = ((root * 0 + 1) << 60) // root
    normal = ((difference.to(tl.int64) * factor) >> 36).to(tl.int32)
    affine = normal.to(tl.int64) * tl.load(multiplier + j, inside, 0).to(tl.int64) + tl.load(bias + j, inside, 0)
    if high:  # noqa: SIM108
        codes = (affine >> 32).to(tl.int32) >> (tl.load(shift) - 32)
    else:
        codes = affine >> tl.load(shift).to(tl.int64)
    tl.store(out + row * channels + j, held(codes, 8).to(tl.int8), inside)


@triton.jit
def gelu(codes, table, columns: tl.constexpr, block: tl.constexpr):
    """The GELU with its requantization, in place on int8 rows: table[row's largest + 128, code + 128]."""
    row, j = tl.program_id(0), tl.arange(0, block)
    inside = j < columns
    x = tl.load(codes + row * columns + j, inside, -128).to(tl.int32)
    top = tl.max(x, 0)
    tl.store(codes + row * columns + j, tl.load(table + (top + 128) * 256 + x + 128), inside)

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""INT8 linear layers in Triton: a tile of the product, and in the same kernel what follows its INT32 accumulators.

Codes are int8, the residual stream int32, row after row; weights int8 [out, in]. A dyadic number is a multiplier and a
shift, one a channel or one for all. Nothing here is in floating point but the classifier's last scale.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def held(x, bits: tl.constexpr):
    """x clamped to signed codes of this width."""
    return tl.minimum(tl.maximum(x, -(1 << (bits - 1))), (1 << (bits - 1)) - 1)


@triton.jit
def dyadic(codes, multiplier, shift, nearest: tl.constexpr, high: tl.constexpr):
    """(b * I + 2^(c-1)) >> c of int32 codes, in int64; without the second term where not `nearest`.

    `high`: every shift is at least 33. Then it is ((b*I >> 32) + 2^(c-33)) >> (c-32) exactly, in int32 but the product.
    """
    product = codes.to(tl.int64) * multiplier.to(tl.int64)
    if high:
        upper = (product >> 32).to(tl.int32)
        by = shift - 32
        if nearest:
            upper += (by * 0 + 1) << (by - 1)
        return upper >> by
    else:
        wide = shift.to(tl.int64)
        if nearest:
            product += ((wide * 0 + 1) << wide) >> 1
        return product >> wide


@triton.jit
def place(size_n: tl.constexpr, bm: tl.constexpr, bn: tl.constexpr):
    """Rows and columns of this program's tile; tiles of one band of rows follow each other."""
    across = tl.cdiv(size_n, bn)
    tile = tl.program_id(0)
    return (tile // across) * bm + tl.arange(0, bm), (tile % across) * bn + tl.arange(0, bn)


@triton.jit
def accumulators(a, lda, w, bias, rows, columns, size_m, size_n: tl.constexpr, k: tl.constexpr, bk: tl.constexpr):
    """A tile of codes [M, K] times weights [N, K], plus the bias: int32, which wraps around as int32 does.

    Rows and columns past the last compute the first again, which nobody stores.
    """
    at = tl.where(rows < size_m, rows, 0)
    channel = tl.where(columns < size_n, columns, 0)
    depth = tl.arange(0, bk)
    left = a + at[:, None] * lda + depth[None, :]
    right = w + channel[None, :] * k + depth[:, None]
    total = tl.zeros((rows.shape[0], columns.shape[0]), tl.int32)
    for start in range(0, k, bk):
        if k % bk == 0:
            x = tl.load(left + start)
            y = tl.load(right + start)
        else:
            x = tl.load(left + start, mask=(depth + start < k)[None, :], other=0)
            y = tl.load(right + start, mask=(depth + start < k)[:, None], other=0)
        total = tl.dot(x, y, total, out_dtype=tl.int32)
    return total + tl.load(bias + channel)[None, :]


@triton.jit(do_not_specialize=["size_m"])
def linear8(
    a, lda, w, bias, multiplier, shift, nearest: tl.constexpr, high: tl.constexpr, out, ldo, size_m,
    size_n: tl.constexpr, k: tl.constexpr, bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr,
):  # fmt: skip
    """A linear layer and its requantization to int8."""
    rows, columns = place(size_n, bm, bn)
    total = accumulators(a, lda, w, bias, rows, columns, size_m, size_n, k, bk)
    inside = columns < size_n
    b, c = tl.load(multiplier + columns, inside, 0), tl.load(shift + columns, inside, 40)
    codes = held(dyadic(total, b[None, :], c[None, :], nearest, high), 8).to(tl.int8)
    tl.store(out + rows[:, None] * ldo + columns[None, :], codes, (rows < size_m)[:, None] & inside[None, :])


@triton.jit(do_not_specialize=["size_m"])
def linear_add(
    a, lda, w, bias, multiplier, shift, nearest: tl.constexpr, high: tl.constexpr, left_bits: tl.constexpr,
    own_multiplier, own_shift, own_high: tl.constexpr, right_bits: tl.constexpr, bits: tl.constexpr, stream, size_m,
    size_n: tl.constexpr, k: tl.constexpr, bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr,
):  # fmt: skip
    """A linear layer whose accumulators join the residual stream [M, N], in place."""
    rows, columns = place(size_n, bm, bn)
    total = accumulators(a, lda, w, bias, rows, columns, size_m, size_n, k, bk)
    inside = columns < size_n
    b, c = tl.load(multiplier + columns, inside, 0), tl.load(shift + columns, inside, 40)
    branch = held(dyadic(total, b[None, :], c[None, :], nearest, high), left_bits)
    at = stream + rows[:, None] * size_n + columns[None, :]
    stored = (rows < size_m)[:, None] & inside[None, :]
    before = tl.load(at, stored, 0)
    kept = held(dyadic(before, tl.load(own_multiplier), tl.load(own_shift), nearest, own_high), right_bits)
    tl.store(at, held(branch + kept, bits).to(tl.int32), stored)


@triton.jit(do_not_specialize=["size_m", "patches", "extra"])
def embed(
    a, lda, w, bias, multiplier, shift, nearest: tl.constexpr, high: tl.constexpr, own_bits: tl.constexpr,
    left_multiplier, left_shift, left_bits: tl.constexpr, bits: tl.constexpr, positions, patches, extra, stream, size_m,
    size_n: tl.constexpr, k: tl.constexpr, bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr,
):  # fmt: skip
    """Patch embedding of M patches, `patches` an image, and their positions [extra + patches, N], into the stream."""
    rows, columns = place(size_n, bm, bn)
    total = accumulators(a, lda, w, bias, rows, columns, size_m, size_n, k, bk)
    inside = columns < size_n
    b, c = tl.load(multiplier + columns, inside, 0), tl.load(shift + columns, inside, 40)
    codes = held(dyadic(total, b[None, :], c[None, :], nearest, high), own_bits).to(tl.int32)
    codes = held(dyadic(codes, tl.load(left_multiplier), tl.load(left_shift), nearest, False), left_bits)
    token = extra + rows % patches
    stored = (rows < size_m)[:, None] & inside[None, :]
    codes += tl.load(positions + token[:, None] * size_n + columns[None, :], stored, 0)
    at = (rows // patches) * (patches + extra) + token
    tl.store(stream + at[:, None] * size_n + columns[None, :], held(codes, bits).to(tl.int32), stored)


@triton.jit(do_not_specialize=["size_m"])
def classify(
    a, lda, w, bias, multiplier, shift, nearest: tl.constexpr, high: tl.constexpr, bits: tl.constexpr, worth, out,
    size_m, size_n: tl.constexpr, k: tl.constexpr, bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr,
):  # fmt: skip
    """The classifier: its codes times what one of them is worth, float32 [M, N]."""
    rows, columns = place(size_n, bm, bn)
    total = accumulators(a, lda, w, bias, rows, columns, size_m, size_n, k, bk)
    inside = columns < size_n
    b, c = tl.load(multiplier + columns, inside, 0), tl.load(shift + columns, inside, 40)
    codes = held(dyadic(total, b[None, :], c[None, :], nearest, high), bits).to(tl.int32)
    reals = codes.to(tl.float32) * tl.load(worth)
    tl.store(out + rows[:, None] * size_n + columns[None, :], reals, (rows < size_m)[:, None] & inside[None, :])

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Signs packed 32 a word and products by xor, and, and popcount, in Triton.

Words lie word by word, int32 [batch, words, rows], so that neighbouring rows are neighbours in memory. Factors and
biases are applied to the exact integers as torch applies them, product by product, in float32: kernels are launched
without the fusion of a multiplication and an addition into one rounding.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def popcount(x, native: tl.constexpr):
    """Set bits of int32 words; by sums of pairs, nibbles and bytes where there is no instruction (the interpreter)."""
    if native:
        return tl.inline_asm_elementwise("popc.b32 $0, $1;", "=r,r", [x], dtype=tl.int32, is_pure=True, pack=1)
    x = x - ((x >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    x = x + (x >> 8)
    return (x + (x >> 16)) & 0xFF


@triton.jit(do_not_specialize=["rows"])
def pack(
    x, x_outer, x_head, x_row, x_bit, shift, s_outer, s_head, s_row, s_bit, scale, above: tl.constexpr, heads, rows,
    k: tl.constexpr, words: tl.constexpr, out, block: tl.constexpr,
):  # fmt: skip
    """Words of float32 x[batch, head, row, bit] by its strides: the signs of x + shift, or whether x / scale > 1/2.

    The grid is (batch * heads, blocks of rows, words); bits past the last are 0.
    """
    both, row, word = tl.program_id(0), tl.program_id(1) * block + tl.arange(0, block), tl.program_id(2)
    outer, head, lane = (both // heads).to(tl.int64), both % heads, tl.arange(0, 32)
    bit = word * 32 + lane
    inside = (row < rows)[:, None] & (bit < k)[None, :]
    at = x + outer * x_outer + head * x_head + row[:, None] * x_row + bit[None, :] * x_bit
    value = tl.load(at, inside, 0.0)
    if above:
        found = tl.div_rn(value, tl.load(scale)) > 0.5
    else:
        by = shift + outer * s_outer + head * s_head + row[:, None] * s_row + bit[None, :] * s_bit
        found = value + tl.load(by, inside, 0.0) >= 0.0
    bits = (found & inside).to(tl.int32) << lane[None, :]
    tl.store(out + (both.to(tl.int64) * words + word) * rows + row, tl.sum(bits, 1).to(tl.int32), row < rows)


@triton.jit(do_not_specialize=["size_m"])
def product(
    a, b, b_step, factor, factor_step: tl.constexpr, bias, biased: tl.constexpr, both: tl.constexpr, out, size_m,
    size_n: tl.constexpr, k: tl.constexpr, words: tl.constexpr, native: tl.constexpr, bm: tl.constexpr,
    bn: tl.constexpr,
):  # fmt: skip
    """float32(p) * factor + bias [batch, M, N] of words a [batch, words, M] and b [batch, words, N].

    p = k - 2 popcount(a ^ b), or with `both` 2 popcount(a & b) - popcount(a). The grid is (tiles, batch); `b_step` is
    how far apart two batches' words of b lie, 0 where all share them.
    """
    across = tl.cdiv(size_n, bn)
    tile, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    row, column = (tile // across) * bm + tl.arange(0, bm), (tile % across) * bn + tl.arange(0, bn)
    real_row, real_column = row < size_m, column < size_n
    left, right = a + batch * words * size_m + row, b + batch * b_step + column
    total = tl.zeros((bm, bn), tl.int32)
    ones = tl.zeros((bm,), tl.int32)
    for _ in range(words):
        x, y = tl.load(left, real_row, 0), tl.load(right, real_column, 0)
        if both:
            total += popcount(x[:, None] & y[None, :], native)
            ones += popcount(x, native)
        else:
            total += popcount(x[:, None] ^ y[None, :], native)
        left += size_m
        right += size_n
    exact = 2 * total - ones[:, None] if both else k - 2 * total
    inside = real_row[:, None] & real_column[None, :]
    reals = exact.to(tl.float32) * tl.load(factor + column * factor_step, real_column, 0.0)[None, :]
    if biased:
        reals = reals + tl.load(bias + column, real_column, 0.0)[None, :]
    tl.store(out + (batch * size_m + row[:, None]) * size_n + column[None, :], reals, inside)

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Tiles of a product with what follows them: accumulators, 8-bit codes, or a sum with the residual stream.

c[6, width] = start[width] + a[6, 4*steps] @ b: uint8 rows, int8 packed [steps, 64, 4], int32, which wraps. a0, b0, s0
and so on are where the operands begin, lda and the like the lengths of rows; of the columns from
`width` to the next of 16, 32 and 64 anything may be written, of accumulators all 64.
"""

from __future__ import annotations

from numba import int32, int64, uint8

from vitq.benchmarks.runtimes.i_vit import vector
from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS, ROWS
from vitq.benchmarks.runtimes.numba_cache import kernel

tile4, words_tile4, join2, join4 = vector.tile4, vector.words_tile4, vector.join2, vector.join4
codes1, codes2, codes4 = vector.codes1, vector.codes2, vector.codes4
biased2, biased4, words2, words4 = vector.biased2, vector.biased4, vector.words2, vector.words4


@kernel()
def requantize8(acc, a0, s, p0, out, o0, count):
    """out = 128 + clamp(dyadic(acc)) of `count` accumulators, whose channels begin at p0, for any shift."""
    x, y = acc[a0 : a0 + count], out[o0 : o0 + count]
    m, h, c = s.multiplier[p0 : p0 + count], s.half[p0 : p0 + count], s.shift[p0 : p0 + count]
    for j in range(count):
        v = (int64(x[j]) * int64(m[j]) + h[j]) >> c[j]
        y[j] = uint8(max(min(v, int64(127)), int64(-128)) + 128)


@kernel()
def requantize8_biased(acc, a0, s, p0, bias, b0, out, o0, count):
    """As `requantize8`, with a bias added before the clamp."""
    low, top = int64(s.low), int64(s.top)
    for j in range(count):
        v = (int64(acc[a0 + j]) * int64(s.multiplier[p0 + j]) + s.half[p0 + j]) >> s.shift[p0 + j]
        v = max(min(v, top), low) + int64(bias[b0 + j])
        out[o0 + j] = uint8(max(min(v, int64(127)), int64(-128)) + 128)


@kernel()
def add_row(acc, a0, j, p0, stream, s0, count):
    """stream = clamp(dyadic(acc) + dyadic(stream)), each operand first held to its headroom, for any shift."""
    left, right = j.left, j.right
    x, y = acc[a0 : a0 + count], stream[s0 : s0 + count]
    m, h, c = left.multiplier[p0 : p0 + count], left.half[p0 : p0 + count], left.shift[p0 : p0 + count]
    rm, rh, rc = int64(right.multiplier[0]), right.half[0], right.shift[0]
    for i in range(count):
        v = (int64(x[i]) * int64(m[i]) + h[i]) >> c[i]
        v = max(min(v, int64(left.top)), int64(left.low))
        w = (int64(y[i]) * rm + rh) >> rc
        w = max(min(w, int64(right.top)), int64(right.low))
        y[i] = int32(max(min(v + w, int64(j.top)), int64(-j.top - 1)))


@kernel()
def tile(a, a0, lda, b, b0, start, s0, c, c0, ldc, steps):
    """The accumulators themselves."""
    tile4(a, a0, lda, b, b0, start, s0, c, c0, ldc, steps)


@kernel()
def words_tile(a, a0, lda, b, b0, start, s0, c, c0, ldc, steps):
    """As `tile` of int16 rows and of int16 packed [steps, 64, 2], both as bytes."""
    words_tile4(a, a0, lda, b, b0, start, s0, c, c0, ldc, steps)


@kernel()
def tile_codes(a, a0, lda, b, b0, start, s0, s, p0, out, o0, ldo, steps, width, acc):
    """A tile requantized to code + 128 by the numbers of a Scale, whose channels begin at p0."""
    if s.high:
        m, h, c = s.multiplier, s.half32, s.shift32
        if width > 32:
            codes4(a, a0, lda, b, b0, start, s0, m, h, c, p0, out, o0, ldo, out, 0, steps)
        elif width > 16:
            codes2(a, a0, lda, b, b0, start, s0, m, h, c, p0, out, o0, ldo, out, 0, steps)
        else:
            codes1(a, a0, lda, b, b0, start, s0, m, h, c, p0, out, o0, ldo, out, 0, steps)
    else:
        tile(a, a0, lda, b, b0, start, s0, acc, 0, COLUMNS, steps)
        for i in range(ROWS):
            requantize8(acc, i * COLUMNS, s, p0, out, o0 + i * ldo, width)


@kernel()
def tile_biased(a, a0, lda, b, b0, start, s0, s, p0, bias, bias0, out, o0, ldo, steps, width, acc):
    """As `tile_codes` with int8 codes of a bias, rows of 64, before the clamp.

    The operand's own clamp, at 14 bits, changes nothing beside a bias of 8 bits and the clamp to 8 bits.
    """
    if s.high:
        m, h, c = s.multiplier, s.half32, s.shift32
        if width > 32:
            biased4(a, a0, lda, b, b0, start, s0, m, h, c, p0, out, o0, ldo, bias, bias0, steps)
        else:
            biased2(a, a0, lda, b, b0, start, s0, m, h, c, p0, out, o0, ldo, bias, bias0, steps)
    else:
        tile(a, a0, lda, b, b0, start, s0, acc, 0, COLUMNS, steps)
        for i in range(ROWS):
            requantize8_biased(acc, i * COLUMNS, s, p0, bias, bias0 + i * COLUMNS, out, o0 + i * ldo, width)


@kernel()
def tile_words(a, a0, lda, b, b0, start, s0, s, p0, out, o0, ldo, steps, width, acc):
    """As `tile_codes` of int16 operands, see `words_tile`."""
    if s.high:
        m, h, c = s.multiplier, s.half32, s.shift32
        if width > 32:
            words4(a, a0, lda, b, b0, start, s0, m, h, c, p0, out, o0, ldo, out, 0, steps)
        else:
            words2(a, a0, lda, b, b0, start, s0, m, h, c, p0, out, o0, ldo, out, 0, steps)
    else:
        words_tile(a, a0, lda, b, b0, start, s0, acc, 0, COLUMNS, steps)
        for i in range(ROWS):
            requantize8(acc, i * COLUMNS, s, p0, out, o0 + i * ldo, width)


@kernel()
def tile_join(a, a0, lda, b, b0, start, s0, j, p0, stream, t0, lds, steps, width, acc):
    """A tile added to the residual stream by the numbers of a Join, in place."""
    if j.narrow:
        m, h, c, up = j.left.multiplier, j.half, j.shift, j.up
        rm = int64(j.right.multiplier[0])
        if width > 32:
            join4(a, a0, lda, b, b0, start, s0, m, h, c, up, p0, rm, j.right_half, j.right_shift, j.right_up, j.top, stream, t0, lds, steps)  # fmt: skip # noqa: E501
        else:
            join2(a, a0, lda, b, b0, start, s0, m, h, c, up, p0, rm, j.right_half, j.right_shift, j.right_up, j.top, stream, t0, lds, steps)  # fmt: skip # noqa: E501
    else:
        tile(a, a0, lda, b, b0, start, s0, acc, 0, COLUMNS, steps)
        for i in range(ROWS):
            add_row(acc, i * COLUMNS, j, p0, stream, t0 + i * lds, width)

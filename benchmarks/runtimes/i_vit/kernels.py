# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Fused integer kernels: products with what follows them, I-LayerNorm and ShiftGELU.

Arrays are flat; an operand is an array, where it begins, and the length of its rows. Activations are uint8, code + 128;
the residual stream is int32. Nothing here is in floating point.
"""

from __future__ import annotations

from numba import int32, int64, uint8

from vitq.benchmarks.runtimes.i_vit.rows import affine, largest_byte, squares, total
from vitq.benchmarks.runtimes.i_vit.tiles import tile, tile_codes, tile_join
from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS, ROWS, lookup
from vitq.benchmarks.runtimes.numba_cache import kernel

SIXTEENTHS = 2**7
"""Vectors of 16 numbers below 2^24 whose sum surely fits int32."""


@kernel()
def product8(a, a0, lda, rows, p, s, out, o0, ldo, acc):
    """Linear layer of `rows` rows (whole tiles) with its requantization to uint8."""
    for panel in range(p.panels):
        first = panel * COLUMNS
        b0, width = first * p.steps * 4, min(COLUMNS, p.columns - first)
        for r in range(0, rows, ROWS):
            tile_codes(
                a, a0 + r * lda, lda, p.weight, b0, p.start, first, s, first, out, o0 + r * ldo + first, ldo, p.steps,
                width, acc,
            )  # fmt: skip


@kernel()
def product_join(a, a0, lda, rows, p, j, stream, s0, lds, acc):
    """Linear layer whose accumulators join the residual stream."""
    for panel in range(p.panels):
        first = panel * COLUMNS
        b0, width = first * p.steps * 4, min(COLUMNS, p.columns - first)
        for r in range(0, rows, ROWS):
            tile_join(
                a, a0 + r * lda, lda, p.weight, b0, p.start, first, j, first, stream, s0 + r * lds + first, lds,
                p.steps, width, acc,
            )  # fmt: skip


@kernel()
def panel32(a, a0, lda, rows, p, s, panel, out, o0, ldo, acc):
    """A panel of 64 channels of a linear layer with its requantization to int32 codes."""
    first, low, top = panel * COLUMNS, int64(s.low), int64(s.top)
    m, h, c = (
        s.multiplier[first : first + COLUMNS], s.half[first : first + COLUMNS], s.shift[first : first + COLUMNS]
    )  # fmt: skip
    for r in range(0, rows, ROWS):
        tile(a, a0 + r * lda, lda, p.weight, first * p.steps * 4, p.start, first, acc, 0, COLUMNS, p.steps)
        for i in range(ROWS):
            x = acc[i * COLUMNS : (i + 1) * COLUMNS]
            y = out[o0 + (r + i) * ldo + first : o0 + (r + i) * ldo + first + COLUMNS]
            for j in range(COLUMNS):
                y[j] = int32(max(min((int64(x[j]) * int64(m[j]) + h[j]) >> c[j], top), low))


@kernel()
def product32(a, a0, lda, rows, p, s, out, o0, ldo, acc):
    """Linear layer with its requantization to int32 codes."""
    for panel in range(p.panels):
        panel32(a, a0, lda, rows, p, s, panel, out, o0, ldo, acc)


@kernel()
def gelu_rows(codes, c0, ld, rows, columns, table):
    """ShiftGELU with its requantization, in place: of a row's maximum and a code, in a table [256, 256].

    The maximum is taken with 0 (128 here), as ShiftGELU does, so that columns beyond the last do not count.
    """
    for r in range(rows):
        top = max(int64(largest_byte(codes, c0 + r * ld, columns)), 128)
        lookup(table, top * 256, codes, c0 + r * ld, codes, c0 + r * ld, columns)


@kernel()
def root_of(value):
    """Integer square root by ten Newton steps from 2^floor(bits/2), at least 1."""
    bits, left = 0, value
    while left > 0:
        bits, left = bits + 1, left >> 1
    root = int64(1) << (bits >> 1)
    for _ in range(10):
        root = max((root + value // root) >> 1, int64(1))
    return root


@kernel()
def centre(stream, s0, count):
    """The mean of a row of the stream, rounded, and floor(2^60 / root of the sum of squares)."""
    if count % 16 == 0 and count <= 16 * SIXTEENTHS:
        mean = (2 * total(stream, s0, count) + count) // (2 * count)
        return mean, (int64(1) << 60) // root_of(squares(stream, s0, count, mean))
    x = stream[s0 : s0 + count]
    found = int64(0)
    for j in range(count):
        found += int64(x[j])
    mean = (2 * found + count) // (2 * count)
    around = int64(0)
    for j in range(count):
        d = int64(x[j]) - mean
        around += d * d
    return mean, (int64(1) << 60) // root_of(around)


@kernel()
def norm_row(stream, s0, n, out, o0):
    """I-LayerNorm of a row of the stream with its affine part, to uint8."""
    count = n.channels
    mean, factor = centre(stream, s0, count)
    if count % 8 == 0:
        affine(stream, s0, count, mean, factor, n.multiplier, n.bias, n.shift, out, o0)
        return
    for j in range(count):
        normal = ((int64(stream[s0 + j]) - mean) * factor) >> 36
        v = (normal * int64(n.multiplier[j]) + n.bias[j]) >> int64(n.shift)
        out[o0 + j] = uint8(max(min(v, int64(127)), int64(-128)) + 128)


@kernel()
def norm_row32(stream, s0, n, out, o0, top):
    """I-LayerNorm of a row of the stream to codes of the stream."""
    count = n.channels
    mean, factor = centre(stream, s0, count)
    x, y, m, b = stream[s0 : s0 + count], out[o0 : o0 + count], n.multiplier[:count], n.bias[:count]
    shift, high = int64(n.shift), int64(top)
    for j in range(count):
        normal = ((int64(x[j]) - mean) * factor) >> 36
        v = (normal * int64(m[j]) + b[j]) >> shift
        y[j] = int32(max(min(v, high), -high - 1))


@kernel()
def norm_rows(stream, s0, lds, rows, n, out, o0, ldo):
    """I-LayerNorm of rows."""
    for r in range(rows):
        norm_row(stream, s0 + r * lds, n, out, o0 + r * ldo)

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Fused integer kernels: products with what follows them, I-LayerNorm, ShiftGELU, and a whole attention head.

Arrays are flat; an operand is an array, where it begins, and the length of its rows. Activations are uint8, code + 128;
the residual stream is int32. Nothing here is in floating point.
"""

from __future__ import annotations

import numpy as np
from numba import int32, int64, njit, uint8, uint32

from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS, ROWS, lookup, shift32, tile

SIGNS = np.uint32(0x80808080)
"""What turns four codes + 128 into four signed codes, and back."""


@njit(cache=True)
def requantize8(acc, a0, s, p0, out, o0, count):
    """out = 128 + clamp(dyadic(acc)) of `count` accumulators, whose channels begin at p0."""
    x, y = acc[a0 : a0 + count], out[o0 : o0 + count]
    m = s.multiplier[p0 : p0 + count]
    if s.high:
        h, c = s.half32[p0 : p0 + count], s.shift32[p0 : p0 + count]
        for j in range(count):
            v = int32((int64(x[j]) * int64(m[j])) >> 32)
            v = shift32(int32(v + h[j]), c[j])
            v = max(min(v, int32(127)), int32(-128))
            y[j] = uint8(v + int32(128))
    else:
        h64, c64 = s.half[p0 : p0 + count], s.shift[p0 : p0 + count]
        for j in range(count):
            w = (int64(x[j]) * int64(m[j]) + h64[j]) >> c64[j]
            y[j] = uint8(max(min(w, int64(127)), int64(-128)) + 128)


@njit(cache=True)
def product8(a, a0, lda, rows, p, s, out, o0, ldo, acc):
    """Linear layer of `rows` rows (whole tiles) with its requantization to uint8."""
    for panel in range(p.panels):
        for r in range(0, rows, ROWS):
            tile(a, a0 + r * lda, lda, p.weight, panel * p.steps * 4 * COLUMNS, p.start, panel * COLUMNS, acc, 0, COLUMNS, p.steps)  # fmt: skip # noqa: E501
            for i in range(ROWS):
                requantize8(acc, i * COLUMNS, s, panel * COLUMNS, out, o0 + (r + i) * ldo + panel * COLUMNS, COLUMNS)


@njit(cache=True)
def add_row(acc, a0, left, right, p0, stream, s0, count, top):
    """stream = clamp(dyadic(acc) + dyadic(stream)), each operand first held to its headroom."""
    x, y = acc[a0 : a0 + count], stream[s0 : s0 + count]
    m, h, c = left.multiplier[p0 : p0 + count], left.half[p0 : p0 + count], left.shift[p0 : p0 + count]
    rm, rh, rc = int64(right.multiplier[0]), right.half[0], right.shift[0]
    for j in range(count):
        v = (int64(x[j]) * int64(m[j]) + h[j]) >> c[j]
        v = max(min(v, int64(left.top)), int64(left.low))
        w = (int64(y[j]) * rm + rh) >> rc
        w = max(min(w, int64(right.top)), int64(right.low))
        y[j] = int32(max(min(v + w, int64(top)), int64(-top - 1)))


@njit(cache=True)
def product_add(a, a0, lda, rows, p, left, right, top, stream, s0, lds, acc):
    """Linear layer whose accumulators join the residual stream."""
    for panel in range(p.panels):
        for r in range(0, rows, ROWS):
            tile(a, a0 + r * lda, lda, p.weight, panel * p.steps * 4 * COLUMNS, p.start, panel * COLUMNS, acc, 0, COLUMNS, p.steps)  # fmt: skip # noqa: E501
            for i in range(ROWS):
                at = s0 + (r + i) * lds + panel * COLUMNS
                add_row(acc, i * COLUMNS, left, right, panel * COLUMNS, stream, at, COLUMNS, top)


@njit(cache=True)
def product32(a, a0, lda, rows, p, s, out, o0, ldo, acc):
    """Linear layer with its requantization to int32 codes."""
    for panel in range(p.panels):
        for r in range(0, rows, ROWS):
            tile(a, a0 + r * lda, lda, p.weight, panel * p.steps * 4 * COLUMNS, p.start, panel * COLUMNS, acc, 0, COLUMNS, p.steps)  # fmt: skip # noqa: E501
            for i in range(ROWS):
                for j in range(COLUMNS):
                    k = panel * COLUMNS + j
                    v = (int64(acc[i * COLUMNS + j]) * int64(s.multiplier[k]) + s.half[k]) >> s.shift[k]
                    out[o0 + (r + i) * ldo + k] = int32(max(min(v, int64(s.top)), int64(s.low)))


@njit(cache=True)
def gelu_rows(codes, c0, ld, rows, columns, table):
    """ShiftGELU with its requantization, in place: of a row's maximum and a code, in a table [256, 256]."""
    for r in range(rows):
        x = codes[c0 + r * ld : c0 + r * ld + columns]
        top = uint8(0)
        for j in range(columns):
            top = max(top, x[j])
        lookup(table, int64(top) * 256, codes, c0 + r * ld, codes, c0 + r * ld, columns)


@njit(cache=True)
def root_of(value):
    """Integer square root by ten Newton steps from 2^floor(bits/2), at least 1."""
    bits, left = 0, value
    while left > 0:
        bits, left = bits + 1, left >> 1
    root = int64(1) << (bits >> 1)
    for _ in range(10):
        root = max((root + value // root) >> 1, int64(1))
    return root


@njit(cache=True)
def norm_row(stream, s0, n, out, o0):
    """I-LayerNorm of a row of the stream with its affine part, to uint8."""
    count = n.channels
    x, y = stream[s0 : s0 + count], out[o0 : o0 + count]
    total = int64(0)
    for j in range(count):
        total += int64(x[j])
    mean = (2 * total + count) // (2 * count)
    squares = int64(0)
    for j in range(count):
        d = int64(x[j]) - mean
        squares += d * d
    factor = (int64(1) << 60) // root_of(squares)
    m, b, c = n.multiplier[:count], n.bias[:count], int64(n.shift)
    for j in range(count):
        normal = ((int64(x[j]) - mean) * factor) >> 36
        v = (normal * int64(m[j]) + b[j]) >> c
        y[j] = uint8(max(min(v, int64(127)), int64(-128)) + 128)


@njit(cache=True)
def norm_rows(stream, s0, lds, rows, n, out, o0, ldo):
    """I-LayerNorm of rows."""
    for r in range(rows):
        norm_row(stream, s0 + r * lds, n, out, o0 + r * ldo)


@njit(cache=True)
def pack_keys(qkv, qkv4, at, ld, tokens, d, keys, start):
    """Keys of a head to [panels, d/4, 64, 4] and where their logits start, -128 * sum of a key: queries are + 128."""
    steps = d // 4
    for m in range(tokens):
        word = (at + m * ld) // 4
        base = (m // COLUMNS) * steps * COLUMNS + m % COLUMNS
        for s in range(steps):
            keys[base + s * COLUMNS] = qkv4[word + s] ^ SIGNS
        x = qkv[at + m * ld : at + m * ld + d]
        total = int32(0)
        for j in range(d):
            total = int32(total + int32(x[j]))
        start[m] = int32(-128 * (int64(total) - 128 * d))


@njit(cache=True)
def pack_values(qkv, at, ld, tokens, d, values):
    """Values of a head to [d/64, tokens/4, 64, 4]; tokens past the last are zero."""
    steps = (tokens + 3) // 4
    for s in range(steps):
        for first in range(0, d, COLUMNS):
            width = min(COLUMNS, d - first)
            word = values[((first // COLUMNS) * steps + s) * COLUMNS :]
            for j in range(width):
                word[j] = uint32(0)
            for i in range(min(4, tokens - 4 * s)):
                x = qkv[at + (4 * s + i) * ld + first : at + (4 * s + i) * ld + first + width]
                by = uint32(8 * i)
                for j in range(width):
                    word[j] = uint32(word[j] | uint32(uint32(x[j] ^ uint8(128)) << by))


@njit(cache=True)
def shiftmax_row(codes, c0, tokens, soft, powers, out, o0):
    """Shiftmax of a row of uint8 logits (code + 128) to probabilities in uint8, 0 to 127."""
    x, e, y = codes[c0 : c0 + tokens], powers[:tokens], out[o0 : o0 + tokens]
    top = uint8(0)
    for j in range(tokens):
        top = max(top, x[j])
    total = int64(0)
    if soft.narrow:
        one, magic, high = int32(soft.one), int32(soft.magic), int32(top)
        for j in range(tokens):
            d = int32(int32(x[j]) - high)
            n = int32(shift32(d, int32(4)) - int32(d + shift32(d, int32(1))))
            q = shift32(int32(n * magic), int32(20))
            r = int32(n - int32(q * one))
            line = int32(one + shift32(int32(-r), int32(1)))
            e[j] = shift32(int32(line * int32(32768)), min(q, int32(31)))
        for j in range(tokens):
            total += int64(e[j])
        factor = (int64(1) << 62) // max(total, int64(1))
        for j in range(tokens):
            y[j] = uint8(min((factor * int64(e[j])) >> 55, int64(127)))
    else:
        for j in range(tokens):
            total += soft.table[int64(top) - int64(x[j])]
        factor = (int64(1) << 62) // max(total, int64(1))
        for j in range(tokens):
            y[j] = uint8(min((factor * soft.table[int64(top) - int64(x[j])]) >> 55, int64(127)))


@njit(cache=True)
def attend(qkv, qkv4, row0, ld, head, heads, d, tokens, begin, end, qk, soft, av, out, ldo, w):
    """One head of one image, queries begin to end: logits, Shiftmax and values, all in the caches."""
    width = heads * d
    at = row0 * ld + head * d
    pack_keys(qkv, qkv4, at + width, ld, tokens, d, w.keys4, w.start)
    pack_values(qkv, at + 2 * width, ld, tokens, d, w.values4)
    panels = (tokens + COLUMNS - 1) // COLUMNS
    ldc, steps = panels * COLUMNS, (tokens + 3) // 4
    for r in range(begin, end, ROWS):
        valid = min(ROWS, end - r)
        for panel in range(panels):
            tile(qkv, at + r * ld, ld, w.keys, panel * d * COLUMNS, w.start, panel * COLUMNS, w.acc, 0, COLUMNS, d // 4)
            for i in range(ROWS):
                requantize8(w.acc, i * COLUMNS, qk, 0, w.logits, i * ldc + panel * COLUMNS, COLUMNS)
        for i in range(valid):
            shiftmax_row(w.logits, i * ldc, tokens, soft, w.powers, w.shares, i * ldc)
        for first in range(0, d, COLUMNS):
            count = min(COLUMNS, d - first)
            tile(w.shares, 0, ldc, w.values, first * steps * 4, w.zeros, 0, w.acc, 0, COLUMNS, steps)
            for i in range(valid):
                requantize8(w.acc, i * COLUMNS, av, 0, out, (row0 + r + i) * ldo + head * d + first, count)

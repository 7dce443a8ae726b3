# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""One attention head: keys and values packed, logits, Shiftmax and what is mixed of the values, all in the caches.

Tokens lie at rows of their own of the queries, keys and values [rows, 3 * C], uint8, code + 128: one after the other,
or, in windows, where `places` says.
"""

from __future__ import annotations

import numpy as np
from numba import int16, int64, uint8

from vitq.benchmarks.runtimes.i_vit.rows import (
    exponentials,
    interleave2,
    interleave4,
    largest,
    probabilities8,
    probabilities16,
)  # fmt: skip
from vitq.benchmarks.runtimes.i_vit.tiles import tile, tile_biased, tile_codes, tile_words
from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS, ROWS
from vitq.benchmarks.runtimes.numba_cache import kernel

SIGNS = np.uint32(0x80808080)
"""What turns four codes + 128 into four signed codes, and back."""


@kernel()
def pack_keys(qkv4, places, p0, at, ld, tokens, d, w):
    """Keys of a head to [panels, d/4, 64, 4], and where their logits start: -128 * sum of a key, as queries are + 128.

    The sum is a product with a row of 128, whose sign is turned.
    """
    steps, keys = d // 4, w.keys4
    for m in range(tokens):
        word = (places[p0 + m] * ld + at) // 4
        base = (m // COLUMNS) * steps * COLUMNS + m % COLUMNS
        for s in range(steps):
            keys[base + s * COLUMNS] = qkv4[word + s] ^ SIGNS
    for panel in range((tokens + COLUMNS - 1) // COLUMNS):
        tile(w.middle, 0, 0, w.keys, panel * d * COLUMNS, w.zeros, 0, w.acc, 0, 0, steps)
        for j in range(COLUMNS):
            w.start[panel * COLUMNS + j] = -w.acc[j]


@kernel()
def _copy(source, s0, out, o0, count):
    x, y = source[s0 : s0 + count], out[o0 : o0 + count]
    for j in range(count):
        y[j] = x[j]


@kernel()
def gather(qkv, places, p0, at, ld, tokens, d, out):
    """Queries or values of a head, row after row."""
    for m in range(tokens):
        _copy(qkv, places[p0 + m] * ld + at, out, m * d, d)


@kernel()
def pack_values(tokens, d, bits, w):
    """Gathered values to [d/64, tokens/4, 64, 4], or as int16 to [d/64, tokens/2, 64, 2]; past the last token zeros."""
    together = 4 if bits == 8 else 2
    steps = (tokens + together - 1) // together
    for first in range(0, d, COLUMNS):
        for s in range(steps):
            at, to = s * together * d + first, (first // COLUMNS * steps + s) * COLUMNS
            if bits == 8:
                interleave4(w.gathered, at, d, min(COLUMNS, d - first), w.values4, to)
            else:
                interleave2(w.gathered, at, d, min(COLUMNS, d - first), w.values4, to)


@kernel()
def wide_powers(codes, c0, tokens, soft, keep, k0, powers):
    """Exponentials of a row by the table, for any range of the constants, into int64 `powers`; their sum."""
    top, found = int64(-(2**40)), int64(0)
    for j in range(tokens):
        if keep[k0 + j] or soft.apart > 0:
            top = max(top, int64(codes[c0 + j]) - (int64(0) if keep[k0 + j] else soft.apart))
    for j in range(tokens):
        e = int64(0)
        if keep[k0 + j] or soft.apart > 0:
            e = soft.table[top - int64(codes[c0 + j]) + (int64(0) if keep[k0 + j] else soft.apart)]
        powers[j] = e
        found += e
    return found


@kernel()
def shiftmax8(codes, c0, tokens, soft, keep, k0, w, o0):
    """Shiftmax of a row of uint8 logits (code + 128) to probabilities in uint8, 0 to 127."""
    if soft.narrow:
        top = largest(codes, c0, tokens, keep, k0)
        found = exponentials(codes, c0, tokens, top, soft.one, soft.magic, keep, k0, w.powers)
        probabilities8(w.powers, tokens, (int64(1) << 62) // max(found, int64(1)), w.shares, o0)
        return
    factor = (int64(1) << 62) // max(wide_powers(codes, c0, tokens, soft, keep, k0, w.wide), int64(1))
    for j in range(tokens):
        w.shares[o0 + j] = uint8(min((factor * w.wide[j]) >> 55, int64(127)))


@kernel()
def shiftmax16(codes, c0, tokens, soft, keep, k0, w, o0):
    """Shiftmax of a row of uint8 logits to probabilities in int16, 0 to 32767."""
    if soft.narrow:
        top = largest(codes, c0, tokens, keep, k0)
        found = exponentials(codes, c0, tokens, top, soft.one, soft.magic, keep, k0, w.powers)
        probabilities16(w.powers, tokens, (int64(1) << 62) // max(found, int64(1)), w.shares16, o0)
        return
    factor = (int64(1) << 62) // max(wide_powers(codes, c0, tokens, soft, keep, k0, w.wide), int64(1))
    for j in range(tokens):
        w.shares16[o0 + j] = int16(min((factor * w.wide[j]) >> 47, int64(32767)))


@kernel()
def logits_of(r, tokens, head, d, a, w):
    """Logits of six queries, to code + 128."""
    panels, tall = (tokens + COLUMNS - 1) // COLUMNS, (tokens + ROWS - 1) // ROWS * ROWS
    for panel in range(panels):
        first = panel * COLUMNS
        width = min(COLUMNS, tokens - first)
        if a.biased:
            bias0 = ((head * panels + panel) * tall + r) * COLUMNS
            tile_biased(
                w.queries, r * d, d, w.keys, first * d, w.start, first, a.qk, 0, a.bias, bias0, w.logits, first,
                panels * COLUMNS, d // 4, width, w.acc,
            )  # fmt: skip
        else:
            tile_codes(
                w.queries, r * d, d, w.keys, first * d, w.start, first, a.qk, 0, w.logits, first, panels * COLUMNS,
                d // 4, width, w.acc,
            )  # fmt: skip


@kernel()
def mix_of(first, tokens, d, a, ldc, w):
    """What six rows of probabilities mix of 64 channels of the values, to code + 128."""
    width = min(COLUMNS, d - first)
    if a.softmax.bits == 8:
        steps = (tokens + 3) // 4
        tile_codes(
            w.shares, 0, ldc, w.values, first * steps * 4, w.zeros, 0, a.av, 0, w.mixed, 0, COLUMNS, steps, width, w.acc
        )
    else:
        steps = (tokens + 1) // 2
        tile_words(
            w.shares, 0, 2 * ldc, w.values, first * steps * 4, w.zeros, 0, a.av, 0, w.mixed, 0, COLUMNS, steps, width,
            w.acc,
        )  # fmt: skip


@kernel()
def attend(qkv, qkv4, places, p0, rows, ld, head, heads, d, tokens, begin, end, a, keep, k0, step, out, ldo, w):
    """One head of one image or window, queries begin to end; places of `rows` and more are padding.

    The rows of `keep` begin at k0 and are `step` apart: 0 where all queries see the same tokens.
    """
    width = heads * d
    gather(qkv, places, p0, head * d, ld, tokens, d, w.queries)
    pack_keys(qkv4, places, p0, width + head * d, ld, tokens, d, w)
    gather(qkv, places, p0, 2 * width + head * d, ld, tokens, d, w.gathered)
    pack_values(tokens, d, a.softmax.bits, w)
    ldc = (tokens + COLUMNS - 1) // COLUMNS * COLUMNS
    for r in range(begin, end, ROWS):
        valid = min(ROWS, end - r)
        logits_of(r, tokens, head, d, a, w)
        for i in range(valid):
            if a.softmax.bits == 8:
                shiftmax8(w.logits, i * ldc, tokens, a.softmax, keep, k0 + (r + i) * step, w, i * ldc)
            else:
                shiftmax16(w.logits, i * ldc, tokens, a.softmax, keep, k0 + (r + i) * step, w, i * ldc)
        for first in range(0, d, COLUMNS):
            mix_of(first, tokens, d, a, ldc, w)
            for i in range(valid):
                place = places[p0 + r + i]
                if place < rows:
                    _copy(w.mixed, i * COLUMNS, out, place * ldo + head * d + first, min(COLUMNS, d - first))

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Packing and binary products over whole tensors, a part of the rows for each thread.

Rows of words are flat, `words` a row; operands that columns are taken of lie in panels of 16: [panel, word, 16].
Factors and biases are applied as torch applies them to the exact integers, product by product, in float32.
"""

from __future__ import annotations

import numpy as np
from numba import float32, int64, prange, uint64

from vitq.benchmarks.runtimes.numba_cache import kernel
from vitq.benchmarks.runtimes.xnor.words import COLUMNS, ROWS, above64, common, differing, popcount, signs64

ONE = np.uint64(1)


@kernel(counts=True)
def _signs_row(x, x0, s, s0, k, out, o0):
    """The words of one row of k values."""
    full = k // 64
    for w in range(full):
        out[o0 + w] = signs64(x, x0 + 64 * w, s, s0 + 64 * w)
    if k % 64:
        word = uint64(0)
        for j in range(64 * full, k):
            if x[x0 + j] + s[s0 + j] >= float32(0):
                word |= ONE << uint64(j - 64 * full)
        out[o0 + full] = word


@kernel(counts=True, parallel=True)
def pack_signs(x, s, rows, each, k, words, out):
    """out[row] = signs of x[row] + s[row // each], which are float32 [rows, k] and [rows / each, k]."""
    for row in prange(rows):
        _signs_row(x, row * k, s, (row // each) * k, k, out, row * words)


@kernel(counts=True)
def _panel_of_rows(rows_of, r0, rows, words, out, o0):
    """Rows of words as panels of 16 columns; what is missing of the last is left as it is."""
    for row in range(rows):
        at = o0 + (row // COLUMNS) * words * COLUMNS + row % COLUMNS
        for w in range(words):
            out[at + w * COLUMNS] = rows_of[r0 + row * words + w]


@kernel(counts=True)
def panels(rows_of, rows, words, out):
    """Rows of words [rows, words] as panels [panel, word, 16]."""
    _panel_of_rows(rows_of, 0, rows, words, out, 0)


@kernel(counts=True, parallel=True)
def linear(a, rows, words, k, b, columns, factor, bias, biased, out, acc):
    """out[rows, columns] = float32(k - 2 differing) * factor + bias.

    `a` has rows of words up to a multiple of 8, `b` panels, `acc` int64 [threads' tiles, 8 * 16]; a tile of columns is
    held while the rows of a block pass.
    """
    blocks = (rows + ROWS - 1) // ROWS
    tiles = (columns + COLUMNS - 1) // COLUMNS
    parts = acc.shape[0]
    for part in prange(parts):
        own = acc[part]
        first, last = part * blocks // parts, (part + 1) * blocks // parts
        for block in range(first, last):
            top = min(ROWS, rows - block * ROWS)
            for tile in range(tiles):
                differing(a, block * ROWS * words, b, tile * words * COLUMNS, own, words)
                wide = min(COLUMNS, columns - tile * COLUMNS)
                f = factor[tile * COLUMNS : tile * COLUMNS + wide]
                for r in range(top):
                    at = (block * ROWS + r) * columns + tile * COLUMNS
                    y = out[at : at + wide]
                    if biased:
                        c = bias[tile * COLUMNS : tile * COLUMNS + wide]
                        for j in range(wide):
                            y[j] = float32(k - 2 * own[r * COLUMNS + j]) * f[j] + c[j]
                    else:
                        for j in range(wide):
                            y[j] = float32(k - 2 * own[r * COLUMNS + j]) * f[j]


@kernel(counts=True, parallel=True)
def query_key(q, q_shift, k, k_shift, heads, n, m, d, factor, out, acc, left, right):
    """out[head, n, m] = float32(d - 2 differing(sign(q + shift), sign(k + shift))) * factor for every image's head.

    q is [heads, n, d], k [heads, m, d], the shifts [heads, d], all float32 and flat; the rest is work for each thread.
    """
    words, parts = (d + 63) // 64, acc.shape[0]
    for part in prange(parts):
        own, a, b = acc[part], left[part], right[part]
        line = np.empty(words, np.uint64)
        for head in range(part * heads // parts, (part + 1) * heads // parts):
            for row in range(n):
                _signs_row(q, (head * n + row) * d, q_shift, head * d, d, a, row * words)
            for row in range(m):
                _signs_row(k, (head * m + row) * d, k_shift, head * d, d, line, 0)
                for w in range(words):
                    b[(row // COLUMNS) * words * COLUMNS + w * COLUMNS + row % COLUMNS] = line[w]
            for block in range((n + ROWS - 1) // ROWS):
                top = min(ROWS, n - block * ROWS)
                for tile in range((m + COLUMNS - 1) // COLUMNS):
                    differing(a, block * ROWS * words, b, tile * words * COLUMNS, own, words)
                    wide = min(COLUMNS, m - tile * COLUMNS)
                    for r in range(top):
                        at = (head * n + block * ROWS + r) * m + tile * COLUMNS
                        y = out[at : at + wide]
                        for j in range(wide):
                            y[j] = float32(d - 2 * own[r * COLUMNS + j]) * factor


@kernel(counts=True, parallel=True)
def attend(p, scale, v, v_shift, heads, n, m, d, factor, out, acc, left, right):
    """out[head, n, d] = float32(2 common(p / scale > 1/2, sign(v + shift)) - count of p's) * factor.

    p is [heads, n, m], v [heads, m, d], v_shift [heads, d], all float32 and flat; bits run over the m tokens.
    """
    words, parts = (m + 63) // 64, acc.shape[0]
    for part in prange(parts):
        own, a, b = acc[part], left[part], right[part]
        ones = np.empty(n + ROWS, np.int64)
        column = np.empty(d, np.uint64)
        for head in range(part * heads // parts, (part + 1) * heads // parts):
            for row in range(n):
                ones[row] = _above_row(p, (head * n + row) * m, scale, m, a, row * words)
            shift = v_shift[head * d : head * d + d]
            for w in range(words):
                column[:] = uint64(0)
                for token in range(64 * w, min(64 * w + 64, m)):
                    x = v[(head * m + token) * d : (head * m + token) * d + d]
                    place = uint64(token - 64 * w)
                    for j in range(d):
                        column[j] |= uint64(x[j] + shift[j] >= float32(0)) << place
                for j in range(d):
                    b[(j // COLUMNS) * words * COLUMNS + w * COLUMNS + j % COLUMNS] = column[j]
            for block in range((n + ROWS - 1) // ROWS):
                top = min(ROWS, n - block * ROWS)
                for tile in range((d + COLUMNS - 1) // COLUMNS):
                    common(a, block * ROWS * words, b, tile * words * COLUMNS, own, words)
                    wide = min(COLUMNS, d - tile * COLUMNS)
                    for r in range(top):
                        count = ones[block * ROWS + r]
                        at = (head * n + block * ROWS + r) * d + tile * COLUMNS
                        y = out[at : at + wide]
                        for j in range(wide):
                            y[j] = float32(2 * own[r * COLUMNS + j] - count) * factor


@kernel(counts=True)
def _above_row(p, p0, scale, m, out, o0):
    """The words of one row of m probabilities; returns how many bits are set."""
    full, count = m // 64, int64(0)
    for w in range(full):
        out[o0 + w] = above64(p, p0 + 64 * w, scale)
        count += int64(popcount(out[o0 + w]))
    if m % 64:
        word = uint64(0)
        for j in range(64 * full, m):
            if p[p0 + j] / scale > float32(0.5):
                word |= ONE << uint64(j - 64 * full)
        out[o0 + full] = word
        count += int64(popcount(word))
    return count

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""The parallel regions of a transformer block: between two of them lie words of signs and the residual, nothing else.

A region's units (a head of an image, 64 channels of one, eight rows) are shared among the threads; what a unit makes on
the way stays in the cache: `work` are a thread's own arrays. Words of tokens are [images * tokens, words], padded to 8
rows more; weights are panels of 16 columns; everything is flat.
"""

from __future__ import annotations

from numba import float32, prange, uint64

from vitq.benchmarks.runtimes.numba_cache import kernel
from vitq.benchmarks.runtimes.xnor.rows import WORD, norm_row, pack_columns, softmax_bits, transpose64
from vitq.benchmarks.runtimes.xnor.vector import common32, differing32
from vitq.benchmarks.runtimes.xnor.words import COLUMNS, ROWS

PANELS = WORD // COLUMNS


@kernel(counts=True, error_model="numpy")
def _linear64(a, a0, rows, words, k, b, panel, factor, bias, acc, out):
    """out[rows, 64] = float32(k - 2 differing) * factor + bias for the 64 columns of four panels."""
    whole = float32(k)
    for block in range((rows + ROWS - 1) // ROWS):
        top = min(ROWS, rows - block * ROWS)
        for tile in range(PANELS):
            differing32(a, a0 + block * ROWS * words, b, (panel + tile) * words * COLUMNS, acc, words)
            f = factor[(panel + tile) * COLUMNS : (panel + tile) * COLUMNS + COLUMNS]
            c = bias[(panel + tile) * COLUMNS : (panel + tile) * COLUMNS + COLUMNS]
            for r in range(top):
                at = (block * ROWS + r) * WORD + tile * COLUMNS
                y, n = out[at : at + COLUMNS], acc[r * COLUMNS : r * COLUMNS + COLUMNS]
                for j in range(COLUMNS):
                    y[j] = (whole - float32(2) * float32(n[j])) * f[j] + c[j]


@kernel(counts=True, error_model="numpy")
def _table64(a, a0, rows, words, k, b, panel, table, acc, out):
    """out[rows, 64] = table[column, differing] for the 64 columns of four panels."""
    for block in range((rows + ROWS - 1) // ROWS):
        top = min(ROWS, rows - block * ROWS)
        for tile in range(PANELS):
            differing32(a, a0 + block * ROWS * words, b, (panel + tile) * words * COLUMNS, acc, words)
            first = (panel + tile) * COLUMNS * (k + 1)
            for r in range(top):
                at = (block * ROWS + r) * WORD + tile * COLUMNS
                for j in range(COLUMNS):
                    out[at + j] = table[first + j * (k + 1) + acc[r * COLUMNS + j]]


@kernel(counts=True, error_model="numpy")
def _value_panels(words_of, tokens, words, turned, out):
    """Signs of 64 channels a token -> panels [4, words, 16] of bits over tokens; `turned` is room for 64 words."""
    for w in range(words):
        some = min(WORD, tokens - WORD * w)
        turned[:some] = words_of[WORD * w : WORD * w + some]
        turned[some:] = uint64(0)
        transpose64(turned)
        for j in range(WORD):
            out[((j // COLUMNS) * words + w) * COLUMNS + j % COLUMNS] = turned[j]


@kernel(counts=True, error_model="numpy")
def _attend64(p, ones, rows, words, v, factor, acc, out):
    """out[rows, 64] = float32(2 common(p, v) - ones of the row) * factor."""
    for block in range((rows + ROWS - 1) // ROWS):
        top = min(ROWS, rows - block * ROWS)
        for tile in range(PANELS):
            common32(p, block * ROWS * words, v, tile * words * COLUMNS, acc, words)
            for r in range(top):
                at = (block * ROWS + r) * WORD + tile * COLUMNS
                y, n = out[at : at + COLUMNS], acc[r * COLUMNS : r * COLUMNS + COLUMNS]
                less = float32(ones[block * ROWS + r])
                for j in range(COLUMNS):
                    y[j] = (float32(2) * float32(n[j]) - less) * factor


@kernel(counts=True, parallel=True, error_model="numpy")
def attention(
    a, images, tokens, words, heads, power, weight, factor, bias, shifts, adapts, score_factor, scale, least,
    value_factor, out_shift, out_adapt, out, acc, levels, mean, floats, signs, bits, panels, counts, e,
):  # fmt: skip
    """From the words that enter qkv to those that enter the projection, a head of an image a unit.

    `shifts` and `adapts` are [3 * channels] as the columns of qkv; a head has 64 channels, thus one word.
    """
    parts, units, token_words = acc.shape[0], images * heads, (tokens + 63) // 64
    for part in prange(parts):
        own, level, own_mean, f = acc[part], levels[part], mean[part], floats[part]
        q, k, v = signs[part, 0], signs[part, 1], signs[part, 2]
        p, turned, ones = bits[part], panels[part], counts[part, 0]
        for unit in range(part * units // parts, (part + 1) * units // parts):
            image, head = unit // heads, unit % heads
            for which in range(3):
                column = (which * heads + head) * WORD
                _linear64(
                    a, image * tokens * words, tokens, words, words * WORD, weight, column // COLUMNS,
                    factor, bias, own, f,
                )  # fmt: skip
                pack_columns(
                    f, 0, WORD, tokens, power, level, own_mean, shifts, adapts, column, signs[part, which], 0, 1
                )
            for row in range(tokens):
                ones[row] = softmax_bits(
                    q[row], k, tokens, WORD, score_factor, scale, least, counts[part, 1], e[part], p,
                    row * token_words, token_words,
                )  # fmt: skip
            _value_panels(v, tokens, token_words, signs[part, 3], turned)
            _attend64(p, ones, tokens, token_words, turned, value_factor, own, f)
            pack_columns(
                f, 0, WORD, tokens, power, level, own_mean, out_shift, out_adapt, head * WORD, out,
                image * tokens * heads + head, heads,
            )  # fmt: skip


@kernel(counts=True, parallel=True, error_model="numpy")
def hidden(a, images, tokens, words, power, weight, table, shift, adapt, groups, out, acc, levels, mean, floats):
    """From the words that enter fc1 to those that enter fc2, 64 channels of an image a unit.

    `table` float32 [channels, k + 1] is what the activation makes of every count: one for all images in turn.
    """
    parts, units = acc.shape[0], images * groups
    for part in prange(parts):
        f = floats[part]
        for unit in range(part * units // parts, (part + 1) * units // parts):
            group, image = unit // images, unit % images
            _table64(
                a, image * tokens * words, tokens, words, words * WORD, weight, group * PANELS, table, acc[part], f
            )
            pack_columns(
                f, 0, WORD, tokens, power, levels[part], mean[part], shift, adapt, group * WORD, out,
                image * tokens * groups + group, groups,
            )  # fmt: skip


@kernel(counts=True, parallel=True, error_model="numpy")
def project(a, rows, words, weight, columns, factor, bias, x, gamma, beta, eps, y, acc, work):
    """x += float32(k - 2 differing) * factor + bias, and y = LayerNorm(x), eight rows a unit."""
    parts, blocks, whole = acc.shape[0], (rows + ROWS - 1) // ROWS, float32(words * WORD)
    for part in prange(parts):
        own = acc[part]
        for block in range(part * blocks // parts, (part + 1) * blocks // parts):
            top = min(ROWS, rows - block * ROWS)
            for tile in range(columns // COLUMNS):
                differing32(a, block * ROWS * words, weight, tile * words * COLUMNS, own, words)
                f = factor[tile * COLUMNS : tile * COLUMNS + COLUMNS]
                c = bias[tile * COLUMNS : tile * COLUMNS + COLUMNS]
                for r in range(top):
                    at = (block * ROWS + r) * columns + tile * COLUMNS
                    z, n = x[at : at + COLUMNS], own[r * COLUMNS : r * COLUMNS + COLUMNS]
                    for j in range(COLUMNS):
                        z[j] += (whole - float32(2) * float32(n[j])) * f[j] + c[j]
            for r in range(top):
                at = (block * ROWS + r) * columns
                norm_row(x, at, columns, gamma, beta, eps, work[part], y, at)


@kernel(counts=True, parallel=True, error_model="numpy")
def norm(x, rows, columns, gamma, beta, eps, y, work):
    """y = LayerNorm(x), rows of a multiple of 64 numbers."""
    parts = work.shape[0]
    for part in prange(parts):
        for row in range(part * rows // parts, (part + 1) * rows // parts):
            norm_row(x, row * columns, columns, gamma, beta, eps, work[part], y, row * columns)


@kernel(counts=True, parallel=True, error_model="numpy")
def pack(y, images, tokens, columns, power, shift, adapt, out, levels, mean):
    """The words of y's signs after its shift over tokens, 64 channels of an image a unit."""
    parts, words = levels.shape[0], columns // WORD
    units = images * words
    for part in prange(parts):
        for unit in range(part * units // parts, (part + 1) * units // parts):
            image, word = unit // words, unit % words
            pack_columns(
                y, image * tokens * columns + word * WORD, columns, tokens, power, levels[part], mean[part], shift,
                adapt, word * WORD, out, image * tokens * words + word, words,
            )  # fmt: skip

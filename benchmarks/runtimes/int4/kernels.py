# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Kernels on float32 activations: quantize rows to uint8, multiply in integers, scale once.

With activation codes a, weight codes w and zero points z_a, z_w the product is, in integers modulo 2^32 (its own value
is below 2^31, which the layers check, so that no step before it matters),

    sum (a - z_a)(w - z_w) = [sum a w + k z_a z_w - z_a sum w] - z_w sum a.

The bracket's constant is what a tile starts from; the last term is a row's sum of codes by a column's zero point.
"""

from __future__ import annotations

import numpy as np
from numba import float32, get_thread_id, int32, int64, prange, uint8, uint32

from vitq.benchmarks.runtimes.int4.rows import halves_row, log_codes_row
from vitq.benchmarks.runtimes.int4.tile import COLUMNS, GROUP, ROWS, tile
from vitq.benchmarks.runtimes.numba_cache import kernel


@kernel(counts=True, error_model="numpy")
def quantize_row(x, x0, count, grid, out, o0):
    """out = clamp(round(x / D) + z) of a row as uint8; returns the sum. `grid` is D, lo - z, hi - z, z."""
    row, codes = x[x0 : x0 + count], out[o0 : o0 + count]
    step, low, high, zero = grid[0], grid[1], grid[2], int32(grid[3])
    total = int32(0)
    for j in range(count):
        v = np.rint(min(max(row[j] / step, low), high))
        code = int32(int32(v) + zero)
        codes[j] = uint8(code)
        total += code
    return int32(total)


@kernel(counts=True, error_model="numpy")
def scale_rows(acc, sums, s0, rows, zero, factor, bias, p0, width, out, o0, ldo):
    """out = (acc - z_w * a row's sum) * D_a D_w + bias of a tile's first `rows` rows and `width` columns."""
    z, f, b = zero[p0 : p0 + width], factor[p0 : p0 + width], bias[p0 : p0 + width]
    for i in range(rows):
        total = sums[s0 + i]
        x = acc[i * COLUMNS : i * COLUMNS + width]
        y = out[o0 + i * ldo : o0 + i * ldo + width]
        for j in range(width):
            y[j] = float32(int32(x[j] - int32(total * z[j]))) * f[j] + b[j]


@kernel(counts=True, parallel=True)
def linear(
    x, rows, k, grid, weight, nibbles, groups, start, zero, factor, bias, columns, out, chunk, parts, codes, sums, accs,
    plain,
):  # fmt: skip
    """Linear layer of float32 rows [rows, k] to [rows, columns], in chunks of rows and parts of columns."""
    size = groups * COLUMNS * (4 if nibbles else 8)
    panels, lda = (columns + COLUMNS - 1) // COLUMNS, groups * GROUP
    each = (panels + parts - 1) // parts
    for task in prange((rows + chunk - 1) // chunk * parts):
        t, r, part = get_thread_id(), task // parts * chunk, task % parts
        a, total, acc = codes[t], sums[t], accs[t]
        count = min(chunk, rows - r)
        for i in range(count):
            total[i] = quantize_row(x, (r + i) * k, k, grid, a, i * lda)
        for panel in range(part * each, min((part + 1) * each, panels)):
            p0 = panel * COLUMNS
            width = min(COLUMNS, columns - p0)
            for i in range(0, count, ROWS):
                tile(a, i * lda, lda, weight, panel * size, start, p0, acc, groups, nibbles, plain)
                at = (r + i) * columns + p0
                scale_rows(acc, total, i, min(ROWS, count - i), zero, factor, bias, p0, width, out, at, columns)


@kernel(counts=True, error_model="numpy")
def pack_keys(x, x0, ldx, m, d, grid, left_zero, keys4, row, row4, start):
    """Rows [m, d] as the columns of panels, codes - 128, and where their tiles start."""
    groups = (d + GROUP - 1) // GROUP
    zero = int64(grid[3]) - 128
    row[:] = 128
    for i in range(m):
        total = int64(quantize_row(x, x0 + i * ldx, d, grid, row, 0)) - 128 * d
        base = (i // COLUMNS) * groups * 2 * COLUMNS + i % COLUMNS
        for s in range(2 * groups):
            keys4[base + s * COLUMNS] = row4[s] ^ uint32(0x80808080)
        start[i] = int32(left_zero * (d * zero - total))


@kernel(counts=True, error_model="numpy")
def pack_values(x, x0, ldx, m, d, grid, left_zero, values4, row, start):
    """Rows [m, d] as the rows of panels, codes - 128, and where their tiles start."""
    groups = (m + GROUP - 1) // GROUP
    zero = int64(grid[3]) - 128
    panels = (d + COLUMNS - 1) // COLUMNS
    values4[: panels * groups * 2 * COLUMNS] = uint32(0)
    start[:] = 0
    for i in range(m):
        quantize_row(x, x0 + i * ldx, d, grid, row, 0)
        by = uint32(8 * (i % 4))
        for p in range(panels):
            width = min(COLUMNS, d - p * COLUMNS)
            words = values4[(p * groups * 2 + i // 4) * COLUMNS : (p * groups * 2 + i // 4) * COLUMNS + width]
            codes = row[p * COLUMNS : p * COLUMNS + width]
            begin = start[p * COLUMNS : p * COLUMNS + width]
            for j in range(width):
                words[j] = uint32(words[j] | uint32(uint32(codes[j] ^ uint8(128)) << by))
                begin[j] += int32(codes[j]) - int32(128)
    for j in range(d):
        start[j] = int32(left_zero * (m * zero - int64(start[j])))


@kernel(counts=True, parallel=True)
def query_key(q, k, heads, n, m, d, left, right, factor, out, codes, row, row4, keys, keys4, starts, accs, plain):
    """Q K^T of every head, [heads, n, d] by [heads, m, d], to float32 [heads, n, m]."""
    groups = (d + GROUP - 1) // GROUP
    lda, zero = groups * GROUP, int32(right[3]) - int32(128)
    for head in prange(heads):
        t = get_thread_id()
        a, acc, start, total = codes[t], accs[t], starts[t], np.empty(ROWS, np.int32)
        pack_keys(k, head * m * d, d, m, d, right, int64(left[3]), keys4[t], row[t], row4[t], start)
        for i in range(0, n, ROWS):
            count = min(ROWS, n - i)
            for r in range(count):
                total[r] = int32(quantize_row(q, (head * n + i + r) * d, d, left, a, r * lda) * zero)
            for p in range(0, m, COLUMNS):
                tile(a, 0, lda, keys[t], p * groups * GROUP, start, p, acc, groups, False, plain)
                width = min(COLUMNS, m - p)
                for r in range(count):
                    at = (head * n + i + r) * m + p
                    x, y, less = acc[r * COLUMNS : r * COLUMNS + width], out[at : at + width], total[r]
                    for j in range(width):
                        y[j] = float32(int32(x[j] - less)) * factor


@kernel(counts=True, parallel=True)
def attention_value(
    p, v, heads, n, m, d, log, left, right, factors, out, ones, others, bits, row, values, values4, starts, accs, adds,
    plain,
):  # fmt: skip
    """Attention by V of every head, [heads, n, m] by [heads, m, d], to float32 [heads, n, d].

    `log` is 0 for a uniform grid of attention, else steps an octave; its grid is then the scale and the last code.
    """
    groups = (m + GROUP - 1) // GROUP
    lda, zero = groups * GROUP, int32(right[3]) - int32(128)
    left_zero = int64(0) if log else int64(left[3])
    for head in prange(heads):
        t = get_thread_id()
        a, b, acc, add, start = ones[t], others[t], accs[t], adds[t], starts[t]
        total, further = np.empty(ROWS, np.int32), np.zeros(ROWS, np.int32)
        pack_values(v, head * m * d, d, m, d, right, left_zero, values4[t], row[t], start)
        for i in range(0, n, ROWS):
            count = min(ROWS, n - i)
            for r in range(count):
                at = (head * n + i + r) * m
                if log:
                    log_codes_row(p, at, m, left[0], int32(left[1]), log == 2, bits[t])
                    total[r], further[r] = halves_row(bits[t], m, log == 2, a, b, r * lda)
                else:
                    total[r] = quantize_row(p, at, m, left, a, r * lda)
            for c in range(0, d, COLUMNS):
                tile(a, 0, lda, values[t], c * groups * GROUP, start, c, acc, groups, False, plain)
                width = min(COLUMNS, d - c)
                if log:
                    tile(b, 0, lda, values[t], c * groups * GROUP, start, c, add, groups, False, plain)
                for r in range(count):
                    at = (head * n + i + r) * d + c
                    x, w, y = acc[r * COLUMNS :], add[r * COLUMNS :], out[at : at + width]
                    less, more = int32(total[r] * zero), int32(further[r] * zero)
                    if log:
                        for j in range(width):
                            y[j] = float32(int32(x[j] - less)) * factors[0] + float32(int32(w[j] - more)) * factors[1]
                    else:
                        for j in range(width):
                            y[j] = float32(int32(x[j] - less)) * factors[0]

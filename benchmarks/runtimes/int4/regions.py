# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""A transformer block in three parallel regions: to queries, keys and values; attention; and all that follows it.

Products are in integers as `kernels` has them; between two products a row stays in a core's cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import float32, get_thread_id, int32, int64, prange

from vitq.benchmarks.runtimes.int4.float_tile import float_tile
from vitq.benchmarks.runtimes.int4.kernels import pack_keys, pack_values, quantize_row, scale_rows
from vitq.benchmarks.runtimes.int4.packing import Array
from vitq.benchmarks.runtimes.int4.rows import (
    gelu_row,
    halves_row,
    log_codes_row,
    norm_row,
    powers_row,
    softmax_row,
)
from vitq.benchmarks.runtimes.int4.tile import COLUMNS, GROUP, ROWS, tile
from vitq.benchmarks.runtimes.numba_cache import kernel


class Product(NamedTuple):
    """A linear layer: panels of codes and what scales its sums, see `layers.Int8Linear`."""

    weight: Array
    start: Array
    zero: Array
    factor: Array
    bias: Array
    grid: Array
    nibbles: int
    groups: int
    columns: int
    k: int


class Norm(NamedTuple):
    """A LayerNorm."""

    weight: Array
    bias: Array
    epsilon: np.float32


class Attention(NamedTuple):
    """Grids of queries, keys, attention and values; `factor` of logits, `factors` of attention's two halves.

    `log` is 0 for a uniform grid of attention, else steps an octave; `wide`: a logarithmic grid, V in float32; `cut`:
    its last code is zero.
    """

    q: Array
    k: Array
    p: Array
    v: Array
    factors: Array
    factor: np.float32
    log: int
    wide: int
    cut: int
    heads: int
    d: int


class Room(NamedTuple):
    """A thread's buffers in attention."""

    codes: Array
    others: Array
    row: Array
    row4: Array
    keys: Array
    keys4: Array
    values: Array
    values4: Array
    floats: Array
    starts: Array
    begins: Array
    acc: Array
    add: Array
    logits: Array
    bits: Array


@kernel(counts=True)
def panel_of(a, i, p, panel, acc, plain):
    """A tile of six rows of codes from row i on, and a panel."""
    lda = p.groups * GROUP
    size = p.groups * COLUMNS * (4 if p.nibbles else 8)
    tile(a, i * lda, lda, p.weight, panel * size, p.start, panel * COLUMNS, acc, p.groups, p.nibbles != 0, plain)


@kernel(counts=True)
def project(a, sums, count, p, out, o0, acc, plain):
    """Rows of codes by a layer's weights, to float32 rows."""
    for panel in range((p.columns + COLUMNS - 1) // COLUMNS):
        p0 = panel * COLUMNS
        width = min(COLUMNS, p.columns - p0)
        for i in range(0, count, ROWS):
            panel_of(a, i, p, panel, acc, plain)
            at = o0 + i * p.columns + p0
            scale_rows(acc, sums, i, min(ROWS, count - i), p.zero, p.factor, p.bias, p0, width, out, at, p.columns)


@kernel(counts=True)
def project_add(a, sums, count, p, x, out, o0, acc, reals, plain):
    """As `project`, and the rows of x are added."""
    for panel in range((p.columns + COLUMNS - 1) // COLUMNS):
        p0 = panel * COLUMNS
        width = min(COLUMNS, p.columns - p0)
        for i in range(0, count, ROWS):
            panel_of(a, i, p, panel, acc, plain)
            rows = min(ROWS, count - i)
            scale_rows(acc, sums, i, rows, p.zero, p.factor, p.bias, p0, width, reals, 0, COLUMNS)
            for r in range(rows):
                at = o0 + (i + r) * p.columns + p0
                given, found, more = x[at : at + width], out[at : at + width], reals[r * COLUMNS :]
                for j in range(width):
                    found[j] = given[j] + more[j]


@kernel(counts=True)
def project_gelu(a, sums, count, p, following, codes, totals, acc, reals, plain):
    """As `project`, by GELU and onto the next layer's grid: codes and their sums."""
    ld = following.groups * GROUP
    totals[:count] = 0
    for panel in range((p.columns + COLUMNS - 1) // COLUMNS):
        p0 = panel * COLUMNS
        width = min(COLUMNS, p.columns - p0)
        for i in range(0, count, ROWS):
            panel_of(a, i, p, panel, acc, plain)
            rows = min(ROWS, count - i)
            scale_rows(acc, sums, i, rows, p.zero, p.factor, p.bias, p0, width, reals, 0, COLUMNS)
            gelu_row(reals, 0, rows * COLUMNS)
            for r in range(rows):
                totals[i + r] += quantize_row(reals, r * COLUMNS, width, following.grid, codes, (i + r) * ld + p0)


@kernel(counts=True)
def norm_codes(x, x0, count, norm, p, normal, codes, sums):
    """LayerNorm of rows, onto a layer's grid."""
    for i in range(count):
        norm_row(x, x0 + i * p.k, p.k, norm.weight, norm.bias, norm.epsilon, normal)
        sums[i] = quantize_row(normal, 0, p.k, p.grid, codes, i * p.groups * GROUP)


@kernel(counts=True, parallel=True)
def enter(x, rows, chunk, norm, qkv, out, normals, codes, sums, accs, plain):
    """LayerNorm, and queries, keys and values, of rows [rows, C] to [rows, 3C]."""
    for task in prange((rows + chunk - 1) // chunk):
        t, r = get_thread_id(), task * chunk
        count = min(chunk, rows - r)
        norm_codes(x, r * qkv.k, count, norm, qkv, normals[t], codes[t], sums[t])
        project(codes[t], sums[t], count, qkv, out, r * qkv.columns, accs[t], plain)


@kernel(counts=True, parallel=True)
def leave(x, mixed, rows, chunk, proj, norm, fc1, fc2, out, normals, codes, hidden, sums, totals, accs, reals, plain):
    """Projection and residual sum, LayerNorm, MLP and residual sum, a chunk of rows at a time."""
    for task in prange((rows + chunk - 1) // chunk):
        t, r = get_thread_id(), task * chunk
        count, at = min(chunk, rows - r), r * proj.columns
        a, s, acc, real = codes[t], sums[t], accs[t], reals[t]
        for i in range(count):
            s[i] = quantize_row(mixed, (r + i) * proj.k, proj.k, proj.grid, a, i * proj.groups * GROUP)
        project_add(a, s, count, proj, x, out, at, acc, real, plain)
        norm_codes(out, at, count, norm, fc1, normals[t], a, s)
        project_gelu(a, s, count, fc1, fc2, hidden[t], totals[t], acc, real, plain)
        project_add(hidden[t], totals[t], count, fc2, out, out, at, acc, real, plain)


@kernel(counts=True)
def logits_of(qkv, q0, ld, count, tokens, k, w, plain):
    """Softmax of up to six queries' logits, into `w.logits`, rows of whole panels."""
    lda, wide = (k.d + GROUP - 1) // GROUP * GROUP, (tokens + COLUMNS - 1) // COLUMNS * COLUMNS
    zero = int32(k.k[3]) - int32(128)
    for r in range(count):
        w.begins[r] = int32(quantize_row(qkv, q0 + r * ld, k.d, k.q, w.codes, r * lda) * zero)
    for p in range(0, tokens, COLUMNS):
        tile(w.codes, 0, lda, w.keys, p * lda, w.starts, p, w.acc, lda // GROUP, False, plain)
        for r in range(count):
            x, y = w.acc[r * COLUMNS : (r + 1) * COLUMNS], w.logits[r * wide + p : r * wide + p + COLUMNS]
            less = w.begins[r]
            for j in range(COLUMNS):
                y[j] = float32(int32(x[j] - less)) * k.factor
    for r in range(count):
        softmax_row(w.logits[r * wide :], tokens, w.bits)


@kernel(counts=True)
def mix_int8(count, tokens, k, w, values_start, out, o0, ld, plain):
    """Attention of up to six queries by V, in integers."""
    lda, wide = (tokens + GROUP - 1) // GROUP * GROUP, (tokens + COLUMNS - 1) // COLUMNS * COLUMNS
    zero = int32(k.v[3]) - int32(128)
    for r in range(count):
        if k.log:
            log_codes_row(w.logits, r * wide, tokens, k.p[0], int32(k.p[1]), k.log == 2, w.bits)
            total, further = halves_row(w.bits, tokens, k.log == 2, w.codes, w.others, r * lda)
            w.begins[r], w.begins[ROWS + r] = int32(total * zero), int32(further * zero)
        else:
            w.begins[r] = int32(quantize_row(w.logits, r * wide, tokens, k.p, w.codes, r * lda) * zero)
    for c in range(0, k.d, COLUMNS):
        tile(w.codes, 0, lda, w.values, c * lda, values_start, c, w.acc, lda // GROUP, False, plain)
        if k.log:
            tile(w.others, 0, lda, w.values, c * lda, values_start, c, w.add, lda // GROUP, False, plain)
        width = min(COLUMNS, k.d - c)
        for r in range(count):
            x, z, at = w.acc[r * COLUMNS :], w.add[r * COLUMNS :], o0 + r * ld + c
            y, less, more = out[at : at + width], w.begins[r], w.begins[ROWS + r]
            for j in range(width):
                y[j] = float32(int32(x[j] - less)) * k.factors[0]
            if k.log:
                for j in range(width):
                    y[j] += float32(int32(z[j] - more)) * k.factors[1]


@kernel(counts=True)
def mix_float(count, tokens, k, w, out, o0, ld):
    """Attention of up to six queries, on a logarithmic grid, by V on its grid, in float32."""
    wide = (tokens + COLUMNS - 1) // COLUMNS * COLUMNS
    last = int32(k.p[1])
    for r in range(count):
        log_codes_row(w.logits, r * wide, tokens, k.p[0], last, k.log == 2, w.bits)
        powers_row(w.bits, tokens, k.p[0], last, k.log == 2, k.cut != 0, w.logits, r * wide)
    reals = w.acc.view(np.float32)
    for c in range(0, k.d, COLUMNS):
        float_tile(w.logits, wide, w.floats, c * tokens, reals, tokens)
        width = min(COLUMNS, k.d - c)
        for r in range(count):
            out[o0 + r * ld + c : o0 + r * ld + c + width] = reals[r * COLUMNS : r * COLUMNS + width]


@kernel(counts=True)
def fake_values(x, x0, ldx, m, k, row, floats):
    """Rows [m, d] on the grid of V as float32 [panels, m, 64]."""
    zero, step = int32(k.v[3]), k.v[0]
    for i in range(m):
        quantize_row(x, x0 + i * ldx, k.d, k.v, row, 0)
        for c in range(0, k.d, COLUMNS):
            width = min(COLUMNS, k.d - c)
            out, codes = floats[c * m + i * COLUMNS : c * m + i * COLUMNS + width], row[c : c + width]
            for j in range(width):
                out[j] = float32(int32(codes[j]) - zero) * step


@kernel(counts=True, parallel=True)
def attention(
    qkv, images, tokens, parts, k, out, codes, others, row, row4, keys, keys4, values, values4, floats, starts, opens,
    begins, accs, adds, logits, bits, plain,
):  # fmt: skip
    """All heads of all images, [images, tokens, 3, heads, d] to [images, tokens, heads, d], queries in parts."""
    width, step = k.heads * k.d, ((tokens + parts - 1) // parts + ROWS - 1) // ROWS * ROWS
    for task in prange(images * k.heads * parts):
        image, head, part = task // (k.heads * parts), task // parts % k.heads, task % parts
        t, at, ld = get_thread_id(), image * tokens * 3 * width + head * k.d, 3 * width
        w = Room(
            codes[t], others[t], row[t], row4[t], keys[t], keys4[t], values[t], values4[t], floats[t], starts[t],
            begins[t], accs[t], adds[t], logits[t], bits[t],
        )  # fmt: skip
        pack_keys(qkv, at + width, ld, tokens, k.d, k.k, int64(k.q[3]), w.keys4, w.row, w.row4, w.starts)
        if k.wide:
            fake_values(qkv, at + 2 * width, ld, tokens, k, w.row, w.floats)
        else:
            left = int64(0) if k.log else int64(k.p[3])
            pack_values(qkv, at + 2 * width, ld, tokens, k.d, k.v, left, w.values4, w.row, opens[t])
        for i in range(part * step, min((part + 1) * step, tokens), ROWS):
            count = min(ROWS, min((part + 1) * step, tokens) - i)
            logits_of(qkv, at + i * ld, ld, count, tokens, k, w, plain)
            o0 = (image * tokens + i) * width + head * k.d
            if k.wide:
                mix_float(count, tokens, k, w, out, o0, width)
            else:
                mix_int8(count, tokens, k, w, opens[t], out, o0, width, plain)

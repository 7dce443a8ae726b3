# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""The parallel regions of a forward pass: embedding, attention, all between two attentions, merging, the classifier."""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, int32, int64, prange, uint8

from vitq.benchmarks.runtimes.i_vit import kernels, pool
from vitq.benchmarks.runtimes.i_vit.attention import attend
from vitq.benchmarks.runtimes.i_vit.parts import Work
from vitq.benchmarks.runtimes.i_vit.pool import PRODUCT, SCALE, join_at, norm_at, product_at, scale_at
from vitq.benchmarks.runtimes.i_vit.tiles import requantize8
from vitq.benchmarks.runtimes.i_vit.vector import ROWS
from vitq.benchmarks.runtimes.numba_cache import kernel


@kernel(counts=True, parallel=True)
def quantize_patches(images, scale, height, width, out, ld):
    """round(x / S) of float32 images [B, C, H, W] as uint8 (code + 128), laid out in patches, a row each."""
    batch, channels, full, across = images.shape
    down, right = full // height, across // width
    for task in prange(batch * down):
        b, py = task // down, task % down
        for c in range(channels):
            for y in range(height):
                line = images[b, c, py * height + y]
                for px in range(right):
                    o0 = (task * right + px) * ld + (c * height + y) * width
                    x, to = line[px * width : (px + 1) * width], out[o0 : o0 + width]
                    for j in range(width):
                        v = max(min(np.rint(x[j] / scale), np.float32(127)), np.float32(-128))
                        to[j] = uint8(int32(v) + int32(128))


@kernel(counts=True, parallel=True)
def embed_tokens(
    patches, ldp, count, per_image, tokens, extra, row, i8, i32, i64, positions, top, first, stream, lds, wide
):
    """Patch embedding, its positions, and the leading tokens, into the stream."""
    columns = row[6]
    for task in prange((count + ROWS - 1) // ROWS):
        w, r = wide[get_thread_id()], task * ROWS
        left = scale_at(row, PRODUCT + SCALE, i32, i64)
        m, h, s = int64(left.multiplier[0]), left.half[0], left.shift[0]
        low, high, limit = int64(left.low), int64(left.top), int64(top)
        p0, s0 = product_at(row, 0, i8, i32), scale_at(row, PRODUCT, i32, i64)
        kernels.product32(patches, r * ldp, ldp, ROWS, p0, s0, w, 0, lds, w[ROWS * lds :])
        for i in range(min(ROWS, count - r)):
            token = extra + (r + i) % per_image
            to = ((r + i) // per_image * tokens + token) * lds
            x, y = w[i * lds : i * lds + columns], stream[to : to + columns]
            p = positions[token * columns : (token + 1) * columns]
            for j in range(columns):
                v = max(min((int64(x[j]) * m + h) >> s, high), low) + int64(p[j])
                y[j] = int32(max(min(v, limit), -limit - 1))
    for b in range(count // per_image):
        for j in range(extra):
            to = (b * tokens + j) * lds
            stream[to : to + columns] = first[j * columns : (j + 1) * columns]


@kernel(counts=True, parallel=True)
def embed_map(patches, ldp, count, row, i8, i32, i64, normed, top, stream, lds, wide):
    """Patch embedding and its norm, where it has one, into the stream."""
    for task in prange((count + ROWS - 1) // ROWS):
        w, r = wide[get_thread_id()], task * ROWS
        p, s = product_at(row, 0, i8, i32), scale_at(row, PRODUCT, i32, i64)
        kernels.product32(patches, r * ldp, ldp, ROWS, p, s, w, 0, lds, w[ROWS * lds :])
        for i in range(min(ROWS, count - r)):
            to = (r + i) * lds
            if normed:
                kernels.norm_row32(w, i * lds, norm_at(row, PRODUCT + SCALE, i32, i64), stream, to, top)
            else:
                stream[to : to + p.columns] = w[i * lds : i * lds + p.columns]


@kernel(counts=True, parallel=True)
def attention(
    qkv, qkv4, ld, rows, groups, windows, tokens, heads, d, parts, places, keep, keep_at, keep_step, row, i8, i32, i64,
    out, ldo, keys, keys4, values, values4, start, zeros, acc, logits, powers, shares, shares16, wide, mixed, queries,
    gathered, middle,
):  # fmt: skip
    """All heads of all images or windows, each in `parts` parts of its queries."""
    step = ((tokens + parts - 1) // parts + ROWS - 1) // ROWS * ROWS
    for task in prange(groups * heads * parts):
        group, rest = task // (heads * parts), task % (heads * parts)
        head, part = rest // parts, rest % parts
        t = get_thread_id()
        w = Work(
            keys[t], keys4[t], values[t], values4[t], start[t], zeros[t], acc[t], logits[t], powers[t], shares[t],
            shares16[t], wide[t], mixed[t], queries[t], gathered[t], middle[t],
        )  # fmt: skip
        a = pool.attention_at(row, pool.MIX, i8, i32, i64)
        begin, end = part * step, min((part + 1) * step, tokens)
        k0 = keep_at[group % windows]
        attend(
            qkv, qkv4, places, group * tokens, rows, ld, head, heads, d, tokens, begin, end, a, keep, k0, keep_step,
            out, ldo, w,
        )  # fmt: skip


@kernel(counts=True, parallel=True)
def enter(stream, lds, rows, chunk, row, i8, i32, i64, qkv, ldq, normal, acc):
    """I-LayerNorm and the queries, keys and values of the first block."""
    for task in prange((rows + chunk - 1) // chunk):
        t = get_thread_id()
        r = task * chunk
        count = (min(chunk, rows - r) + ROWS - 1) // ROWS * ROWS
        _enter(stream, r * lds, lds, count, row, i8, i32, i64, qkv, r * ldq, ldq, normal[t], acc[t])


@kernel(counts=True)
def _enter(stream, s0, lds, count, row, i8, i32, i64, qkv, q0, ldq, n, a):
    kernels.norm_rows(stream, s0, lds, count, norm_at(row, 0, i32, i64), n, 0, lds)
    p, s = product_at(row, pool.QKV, i8, i32), scale_at(row, pool.QKV_SCALE, i32, i64)
    kernels.product8(n, 0, lds, count, p, s, qkv, q0, ldq, a)


@kernel(counts=True)
def _between(mixed, stream, s0, lds, count, row, i8, u8, i32, i64, n, h, ldh, a):
    """The rest of a block after its attention: a chunk of rows."""
    proj, add1 = product_at(row, pool.PROJ, i8, i32), join_at(row, pool.ADD1, i32, i64)
    kernels.product_join(mixed, s0, lds, count, proj, add1, stream, s0, lds, a)
    kernels.norm_rows(stream, s0, lds, count, norm_at(row, pool.NORM2, i32, i64), n, 0, lds)
    fc1, scale = product_at(row, pool.FC1, i8, i32), scale_at(row, pool.FC1_SCALE, i32, i64)
    kernels.product8(n, 0, lds, count, fc1, scale, h, 0, ldh, a)
    gelu = u8[row[pool.GELU] : row[pool.GELU] + row[pool.GELU + 1]]
    kernels.gelu_rows(h, 0, ldh, count, fc1.columns, gelu)
    fc2, add2 = product_at(row, pool.FC2, i8, i32), join_at(row, pool.ADD2, i32, i64)
    kernels.product_join(h, 0, ldh, count, fc2, add2, stream, s0, lds, a)


@kernel(counts=True, parallel=True)
def between(
    mixed, stream, lds, rows, chunk, row, after, last, i8, u8, i32, i64, qkv, ldq, normal, hidden, ldh, acc,
):  # fmt: skip
    """From a block's attention to the next block's queries, keys and values, a chunk of rows at a time."""
    for task in prange((rows + chunk - 1) // chunk):
        t = get_thread_id()
        r = task * chunk
        count = (min(chunk, rows - r) + ROWS - 1) // ROWS * ROWS
        _between(mixed, stream, r * lds, lds, count, row, i8, u8, i32, i64, normal[t], hidden[t], ldh, acc[t])
        if not last:
            _enter(stream, r * lds, lds, count, after, i8, i32, i64, qkv, r * ldq, ldq, normal[t], acc[t])


@kernel(counts=True, parallel=True)
def merge(stream, lds, channels, places, rows, chunk, row, i8, i32, i64, out, ldo, wide, normal, ldn, acc):
    """Patch merging: four rows side by side, I-LayerNorm and the linear layer that halves them, into a new stream."""
    for task in prange((rows + chunk - 1) // chunk):
        t = get_thread_id()
        r = task * chunk
        count = min(chunk, rows - r)
        w, n = wide[t], normal[t]
        for i in range(count):
            for k in range(4):
                at = int64(places[4 * (r + i) + k]) * lds
                w[k * channels : (k + 1) * channels] = stream[at : at + channels]
            kernels.norm_row(w, 0, norm_at(row, 0, i32, i64), n, i * ldn)
        p, s = product_at(row, pool.NORM, i8, i32), scale_at(row, pool.NORM + PRODUCT, i32, i64)
        kernels.product32(n, 0, ldn, (count + ROWS - 1) // ROWS * ROWS, p, s, out, r * ldo, ldo, acc[t])


@kernel(counts=True, parallel=True)
def pool_map(stream, lds, images, per_image, row, i32, i64, normal, sums, pooled):
    """I-LayerNorm of every place of a map, and the requantized sum over the places of an image."""
    for b in prange(images):
        t = get_thread_id()
        x, n, s = sums[t], norm_at(row, 0, i32, i64), scale_at(row, pool.NORM, i32, i64)
        x[:] = -128 * per_image
        for i in range(per_image):
            kernels.norm_row(stream, (b * per_image + i) * lds, n, normal[t], 0)
            for j in range(n.channels):
                x[j] = int32(x[j] + int32(normal[t, j]))
        requantize8(x, 0, s, 0, pooled, b * lds, n.channels)


@kernel(counts=True)
def norm_first(stream, lds, images, tokens, row, i32, i64, normal):
    """I-LayerNorm of the class tokens."""
    for b in range(images):
        kernels.norm_row(stream, b * tokens * lds, norm_at(row, 0, i32, i64), normal, b * lds)


@kernel(counts=True, parallel=True)
def classify(rows, ld, images, row, i8, i32, i64, out, ldo, acc):
    """The classifier, a panel of 64 classes a task, to int32 codes."""
    for panel in prange(row[4]):
        p, s = product_at(row, 0, i8, i32), scale_at(row, PRODUCT, i32, i64)
        tall = (images + ROWS - 1) // ROWS * ROWS
        kernels.panel32(rows, 0, ld, tall, p, s, panel, out, 0, ldo, acc[get_thread_id()])

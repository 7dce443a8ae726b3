# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""The parallel regions of a forward pass: embedding, attention, all between two attentions, and the classifier."""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, int32, int64, njit, prange, uint8

from vitq.benchmarks.runtimes.i_vit import kernels
from vitq.benchmarks.runtimes.i_vit.parts import Work
from vitq.benchmarks.runtimes.i_vit.pool import PRODUCT, SCALE, block_at, product_at, scale_at
from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS, ROWS, tile


@njit(cache=True, parallel=True)
def quantize_patches(images, scale, height, width, out, ld):
    """round(x / S) of float32 images [B, C, H, W] as uint8 (code + 128), laid out in patches, a row each."""
    batch, channels, full, across = images.shape
    down, right = full // height, across // width
    for task in prange(batch * down):
        b, py = task // down, task % down
        for px in range(right):
            at = ((b * down + py) * right + px) * ld
            for c in range(channels):
                for y in range(height):
                    for x in range(width):
                        v = np.rint(images[b, c, py * height + y, px * width + x] / scale)
                        v = max(min(v, np.float32(127)), np.float32(-128))
                        out[at] = uint8(int32(v) + 128)
                        at += 1


@njit(cache=True, parallel=True)
def embed(patches, ldp, count, per_image, tokens, extra, row0, i8, i32, i64, positions, top, first, stream, lds, work):
    """Patch embedding, its positions, and the leading tokens, into the stream."""
    for task in prange((count + ROWS - 1) // ROWS):
        w, r = work[get_thread_id()], task * ROWS
        p = product_at(row0, 0, i8, i32)
        s = scale_at(row0, PRODUCT, i32, i64)
        left = scale_at(row0, PRODUCT + SCALE, i32, i64)
        for panel in range(p.panels):
            tile(patches, r * ldp, ldp, p.weight, panel * p.steps * 4 * COLUMNS, p.start, panel * COLUMNS, w, 0, COLUMNS, p.steps)  # fmt: skip # noqa: E501
            for i in range(min(ROWS, count - r)):
                token = extra + (r + i) % per_image
                row = ((r + i) // per_image) * tokens + token
                for j in range(min(COLUMNS, p.columns - panel * COLUMNS)):
                    k = panel * COLUMNS + j
                    v = (int64(w[i * COLUMNS + j]) * int64(s.multiplier[k]) + s.half[k]) >> s.shift[k]
                    v = max(min(v, int64(s.top)), int64(s.low))
                    v = (v * int64(left.multiplier[0]) + left.half[0]) >> left.shift[0]
                    v = max(min(v, int64(left.top)), int64(left.low)) + int64(positions[token * p.columns + k])
                    stream[row * lds + k] = int32(max(min(v, int64(top)), int64(-top - 1)))
    columns = row0[6]
    for b in range(count // per_image):
        for j in range(extra):
            for k in range(columns):
                stream[(b * tokens + j) * lds + k] = first[j * columns + k]


@njit(cache=True, parallel=True)
def attention(
    qkv, qkv4, ld, images, tokens, heads, d, parts, row, i8, u8, i32, i64, out, ldo,
    keys, keys4, values, values4, start, zeros, acc, logits, powers, shares,
):  # fmt: skip
    """All heads of all images, each in `parts` parts of its queries."""
    step = ((tokens + parts - 1) // parts + ROWS - 1) // ROWS * ROWS
    for task in prange(images * heads * parts):
        image, rest = task // (heads * parts), task % (heads * parts)
        head, part = rest // parts, rest % parts
        t = get_thread_id()
        w = Work(
            keys[t], keys4[t], values[t], values4[t], start[t], zeros[t], acc[t], logits[t], powers[t], shares[t],
        )  # fmt: skip
        k = block_at(row, i8, u8, i32, i64)
        begin, end = part * step, min((part + 1) * step, tokens)
        kernels.attend(
            qkv, qkv4, image * tokens, ld, head, heads, d, tokens, begin, end, k.qk, k.softmax, k.av, out, ldo, w
        )


@njit(cache=True, parallel=True)
def enter(stream, lds, rows, chunk, row, i8, u8, i32, i64, qkv, ldq, normal, acc):
    """I-LayerNorm and the queries, keys and values of the first block."""
    for task in prange((rows + chunk - 1) // chunk):
        t = get_thread_id()
        r = task * chunk
        count = (min(chunk, rows - r) + ROWS - 1) // ROWS * ROWS
        block = block_at(row, i8, u8, i32, i64)
        kernels.norm_rows(stream, r * lds, lds, count, block.norm1, normal[t], 0, lds)
        kernels.product8(normal[t], 0, lds, count, block.qkv, block.qkv_scale, qkv, r * ldq, ldq, acc[t])


@njit(cache=True, parallel=True)
def between(
    mixed, stream, lds, rows, chunk, row, after, last, i8, u8, i32, i64, qkv, ldq, normal, hidden, ldh, acc,
):  # fmt: skip
    """From a block's attention to the next block's queries, keys and values, a chunk of rows at a time."""
    for task in prange((rows + chunk - 1) // chunk):
        t = get_thread_id()
        r = task * chunk
        count = (min(chunk, rows - r) + ROWS - 1) // ROWS * ROWS
        a, n, h, at = acc[t], normal[t], hidden[t], r * lds
        block = block_at(row, i8, u8, i32, i64)
        following = block_at(after, i8, u8, i32, i64)
        kernels.product_add(
            mixed, at, lds, count, block.proj, block.left1, block.right1, block.top1, stream, at, lds, a
        )
        kernels.norm_rows(stream, at, lds, count, block.norm2, n, 0, lds)
        kernels.product8(n, 0, lds, count, block.fc1, block.fc1_scale, h, 0, ldh, a)
        kernels.gelu_rows(h, 0, ldh, count, block.fc1.columns, block.gelu)
        kernels.product_add(h, 0, ldh, count, block.fc2, block.left2, block.right2, block.top2, stream, at, lds, a)
        if not last:
            kernels.norm_rows(stream, at, lds, count, following.norm1, n, 0, lds)
            kernels.product8(n, 0, lds, count, following.qkv, following.qkv_scale, qkv, r * ldq, ldq, a)


@njit(cache=True)
def classify(stream, lds, images, tokens, norm, p, s, normal, out, ldo, acc):
    """I-LayerNorm of the class tokens and the classifier, to int32 logits."""
    for b in range(images):
        kernels.norm_row(stream, b * tokens * lds, norm, normal, b * lds)
    kernels.product32(normal, 0, lds, (images + ROWS - 1) // ROWS * ROWS, p, s, out, 0, ldo, acc)

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Means over tokens, LayerNorm and softmax to bits, each in the order in which torch's own kernels compute it.

The orders are those of ATen's CPU kernels: the cascade sum of `SumKernel.cpp`, the moments of `moments_utils.h` (eight
lanes, Welford in chunks of 16), softmax over 16 lanes with Sleef's exp of 1 ulp. Whether they are those of the torch at
hand is asked when a model is compiled (`probe.py`); where they are not, torch's operators are used.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float32, int64, uint64

from vitq.benchmarks.runtimes.numba_cache import kernel
from vitq.benchmarks.runtimes.xnor.vector import add_rows64, fma, lanes_sum, nearest, power_of_two, times_at_least64
from vitq.benchmarks.runtimes.xnor.words import popcount, signs64

LANES = 8
CHUNK = 16
WORD = 64


def cascade_power(rows: int) -> int:
    """Of how many rows, as a power of two, a group of ATen's cascade sum is; four levels of groups."""
    return max(4, math.ceil(math.log2(rows)) // 4) if rows > 1 else 4


@kernel(counts=True, error_model="numpy")
def column_mean(x, x0, stride, rows, power, levels, mean):
    """mean[64] of the columns x[x0 + stride * row + j], row by row in a cascade of four levels [4, 64]."""
    levels[:] = float32(0)
    one, two, three, four = levels[0], levels[1], levels[2], levels[3]
    mask, row = (1 << power) - 1, 0
    while row < rows:
        some = min(rows - row, mask + 1)
        add_rows64(x, x0 + stride * row, stride, some, one)
        row += some
        if some == mask + 1:
            for j in range(WORD):
                two[j] += one[j]
                one[j] = float32(0)
            if row & (mask << power) == 0:
                for j in range(WORD):
                    three[j] += two[j]
                    two[j] = float32(0)
                if row & (mask << (2 * power)) == 0:
                    for j in range(WORD):
                        four[j] += three[j]
                        three[j] = float32(0)
    count = float32(rows)
    for j in range(WORD):
        mean[j] = (((one[j] + two[j]) + three[j]) + four[j]) / count


@kernel(counts=True, error_model="numpy")
def pack_columns(x, x0, stride, rows, power, levels, mean, shift, adapt, c0, out, o0, out_stride):
    """out[o0 + out_stride * row] = the signs of 64 columns, each after shift + adapt * its mean over the rows."""
    column_mean(x, x0, stride, rows, power, levels, mean)
    for j in range(WORD):
        mean[j] = shift[c0 + j] + adapt[c0 + j] * mean[j]
    for row in range(rows):
        out[o0 + out_stride * row] = signs64(x, x0 + stride * row, mean, 0)


@kernel(counts=True, error_model="numpy")
def _join(n_add, m_add, v_add, n, m, v):
    """Moments of n and n_add numbers a lane, joined into m and v; returns the count."""
    count = n + n_add
    c = float32(n_add) / float32(count)
    before = float32(n)
    for i in range(LANES):
        delta = m_add[i] - m[i]
        m[i] = m[i] + c * delta
        v[i] = fma(c * delta, delta * before, v[i] + v_add[i])
    return count


@kernel(counts=True, error_model="numpy")
def moments(x, x0, width, work):
    """Mean and variance of a row of a multiple of 8 numbers; `work` float32 [2, 8, 8]."""
    groups = width // LANES
    chunks = (groups + CHUNK - 1) // CHUNK
    depth = 0
    while (1 << depth) < chunks:
        depth += 1
    counts = np.zeros(LANES, np.int64)
    m, v = work[0], work[1]
    m[:] = float32(0)
    v[:] = float32(0)
    own_m, own_v = m[LANES - 1], v[LANES - 1]
    for chunk in range(chunks):
        own_m[:] = float32(0)
        own_v[:] = float32(0)
        size = min(CHUNK, groups - chunk * CHUNK)
        for j in range(size):
            at = x0 + (chunk * CHUNK + j) * LANES
            line = x[at : at + LANES]
            c = float32(1) / float32(j + 1)
            for i in range(LANES):
                delta = line[i] - own_m[i]
                own_m[i] = fma(delta, c, own_m[i])
                own_v[i] = fma(delta, line[i] - own_m[i], own_v[i])
        counts[0] = _join(size, own_m, own_v, counts[0], m[0], v[0])
        mask, j = chunk + 1, 1
        while j < depth and mask & 1 == 0:
            counts[j] = _join(counts[j - 1], m[j - 1], v[j - 1], counts[j], m[j], v[j])
            counts[j - 1] = 0
            m[j - 1][:] = float32(0)
            v[j - 1][:] = float32(0)
            mask >>= 1
            j += 1
    for j in range(1, depth):
        if counts[0] + counts[j] > 0:
            counts[0] = _join(counts[j], m[j], v[j], counts[0], m[0], v[0])
    count, mean, second = 0, float32(0), float32(0)
    for i in range(LANES):
        c = float32(groups) / float32(count + groups)
        delta = m[0][i] - mean
        mean = fma(c, delta, mean)
        second = second + fma(delta * delta * c, float32(count), v[0][i])
        count += groups
    return mean, second / float32(width)


@kernel(counts=True, error_model="numpy")
def norm_row(x, x0, width, gamma, beta, eps, work, out, o0):
    """LayerNorm of one row of a multiple of 8 numbers."""
    mean, variance = moments(x, x0, width, work)
    scale = float32(1) / np.sqrt(max(variance, float32(0)) + eps)
    line, found = x[x0 : x0 + width], out[o0 : o0 + width]
    for j in range(width):
        found[j] = fma((line[j] - mean) * scale, gamma[j], beta[j])


@kernel(counts=True, error_model="numpy")
def exponential(d):
    """e^d for d <= 0, Sleef's of 1 ulp; 0 below -104."""
    q = nearest(d * float32(1.442695040888963407))
    s = fma(q, float32(-0.693145751953125), d)
    s = fma(q, float32(-1.428606765330187045e-06), s)
    u = float32(0.000198527617612853646278381)
    u = fma(u, s, float32(0.00139304355252534151077271))
    u = fma(u, s, float32(0.00833336077630519866943359))
    u = fma(u, s, float32(0.0416664853692054748535156))
    u = fma(u, s, float32(0.166666671633720397949219))
    u = fma(u, s, float32(0.5))
    u = float32(1) + fma(s * s, u, s)
    half = np.floor(q * float32(0.5))
    u = u * power_of_two(max(half, float32(-126))) * power_of_two(max(q - half, float32(-126)))
    return float32(0) if d < float32(-104) else u


@kernel(counts=True, error_model="numpy")
def softmax_row(query, keys, n, width, factor, scale, counts, e):
    """e[:n] and what each is multiplied by to be a probability; n >= 16, `counts` int32 [n].

    Logits are float32(width - 2 differing(query, key)) * factor * scale, largest where the fewest bits differ.
    """
    fewest = np.int32(width)
    for j in range(n):
        counts[j] = np.int32(popcount(query ^ keys[j]))
    for j in range(n):
        fewest = min(fewest, counts[j])
    whole = float32(width)
    top = ((whole - float32(2) * float32(fewest)) * factor) * scale
    for j in range(n):
        e[j] = exponential(((whole - float32(2) * float32(counts[j])) * factor) * scale - top)
    return float32(1) / lanes_sum(e, n // 16, n % 16)


@kernel(counts=True, error_model="numpy")
def softmax_bits(query, keys, n, width, factor, scale, least, counts, e, out, o0, words):
    """Bits of a row's probabilities that are at least `least` > 0; returns how many. `e` is [64 words], 0 from n on."""
    by, ones = softmax_row(query, keys, n, width, factor, scale, counts, e), int64(0)
    for w in range(words):
        word = times_at_least64(e, WORD * w, by, least)
        out[o0 + w] = word
        ones += int64(popcount(word))
    return ones


@kernel(counts=True, error_model="numpy")
def transpose64(w):
    """Turn 64 words of 64 bits in place: bit i of word j becomes bit j of word i."""
    step, mask = 32, uint64(0x00000000FFFFFFFF)
    while step:
        k = 0
        while k < WORD:
            for i in range(k, k + step):
                moved = ((w[i] >> uint64(step)) ^ w[i + step]) & mask
                w[i] ^= moved << uint64(step)
                w[i + step] ^= moved
            k += 2 * step
        step >>= 1
        mask ^= mask << uint64(max(step, 1)) if step else uint64(0)

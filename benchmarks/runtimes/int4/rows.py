# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Rows in float32 as a transformer's block has them between its products, in loops that vectorize.

Each gives torch's numbers to a few units in the last place: sums are taken in another order, and exp and erf are
polynomials.
"""

from __future__ import annotations

import numpy as np
from numba import float32, int32, uint8

from vitq.benchmarks.runtimes.numba_cache import kernel

SUMS = {"reassoc", "nsz"}
"""What lets a sum be taken in the order of vectors."""


@kernel(counts=True, fastmath=SUMS)
def _sum(x):
    total = float32(0)
    for j in range(len(x)):
        total += x[j]
    return total


@kernel(counts=True, fastmath=SUMS)
def _squares(x, mean):
    total = float32(0)
    for j in range(len(x)):
        total += (x[j] - mean) * (x[j] - mean)
    return total


@kernel(counts=True)
def _largest(x):
    """The largest number, by integers of the same order, whose maximum is taken in vectors."""
    words = x.view(np.int32)
    top = int32(-(2**31))
    for j in range(len(x)):
        word = words[j]
        top = max(top, int32(word ^ (int32(word >> 31) & int32(0x7FFFFFFF))))
    one = np.empty(1, np.int32)
    one[0] = top ^ (int32(top >> 31) & int32(0x7FFFFFFF))
    return one.view(np.float32)[0]


@kernel(counts=True, error_model="numpy")
def norm_row(x, x0, count, weight, bias, epsilon, out):
    """LayerNorm of a row."""
    row = x[x0 : x0 + count]
    mean = _sum(row) / float32(count)
    factor = float32(1) / np.sqrt(_squares(row, mean) / float32(count) + epsilon)
    for j in range(count):
        out[j] = (row[j] - mean) * factor * weight[j] + bias[j]


@kernel(counts=True, error_model="numpy")
def gelu_row(x, x0, count):
    """x (1 + erf(x / sqrt 2)) / 2 in place; erf as a quotient of polynomials (Eigen's), to 4e-7."""
    row = x[x0 : x0 + count]
    for j in range(count):
        v = row[j]
        z = min(max(v * float32(0.7071067811865476), float32(-4)), float32(4))
        s = z * z
        p = s * float32(-2.72614225801306e-10) + float32(2.77068142495902e-08)
        p = p * s + float32(-2.10102402082508e-06)
        p = p * s + float32(-5.69250639462346e-05)
        p = p * s + float32(-7.34990630326855e-04)
        p = p * s + float32(-2.95459980854025e-03)
        p = p * s + float32(-1.60960333262415e-02)
        q = s * float32(-1.45660718464996e-05) + float32(-2.13374055278905e-04)
        q = q * s + float32(-1.68282697438203e-03)
        q = q * s + float32(-7.37332916720468e-03)
        q = q * s + float32(-1.42647390514189e-02)
        row[j] = float32(0.5) * v * (float32(1) + z * p / q)


@kernel(counts=True, error_model="numpy")
def softmax_row(x, count, bits):
    """Softmax in place; exp by powers of two and a polynomial of degree 6, to 2e-7. `bits` is int32 [count]."""
    row, powers = x[:count], bits[:count]
    scales = powers.view(np.float32)
    top = _largest(row)
    for j in range(count):
        v = max(row[j] - top, float32(-87))
        n = np.rint(v * float32(1.4426950408889634))
        r = v - n * float32(0.693359375) + n * float32(2.12194440e-4)
        p = r * float32(1.9875691500e-4) + float32(1.3981999507e-3)
        p = p * r + float32(8.3334519073e-3)
        p = p * r + float32(4.1665795894e-2)
        p = p * r + float32(1.6666665459e-1)
        p = p * r + float32(5.0000001201e-1)
        row[j] = p * r * r + r + float32(1)
        powers[j] = (int32(n) + int32(127)) << 23
    for j in range(count):
        row[j] *= scales[j]
    total = float32(1) / _sum(row)
    for j in range(count):
        row[j] *= total


@kernel(counts=True, error_model="numpy")
def log_codes_row(x, x0, count, scale, last, root, codes):
    """clamp(round(-k log2(x / s))), k = 2 where `root`, else 1, of positive numbers; int32.

    Read from x / s as float32: its exponent, and where its mantissa lies among the roots of 2 between two codes.
    """
    row, values = codes[:count], codes[:count].view(np.float32)
    given = x[x0 : x0 + count]
    for j in range(count):
        values[j] = given[j] / scale
    if root:
        for j in range(count):
            power, mantissa = int32(int32(row[j] >> 23) - 127), int32(row[j] & 0x7FFFFF)
            past = int32(int32(mantissa >= int32(1587185)) + int32(mantissa >= int32(5719293)))
            code = min(max(int32(-2 * power - past), int32(0)), last)
            row[j] = code if power > int32(-127) else last
    else:
        for j in range(count):
            power, mantissa = int32(int32(row[j] >> 23) - 127), int32(row[j] & 0x7FFFFF)
            code = min(max(int32(-power - int32(mantissa >= int32(3474676))), int32(0)), last)
            row[j] = code if power > int32(-127) else last


@kernel(counts=True, error_model="numpy")
def halves_row(codes, count, root, one, other, o0):
    """Codes 0..15 as 128 >> h in two halves, 16 as 0; the sums of both.

    With k = 2 even codes 2h are s/128 * (128 >> h), odd ones 2h + 1 as much by the root of 1/2; with k = 1 codes 0..7
    are s/128 * (128 >> h), and 8..15 the same by 2^-8.
    """
    row, first, second = codes[:count], one[o0 : o0 + count], other[o0 : o0 + count]
    by, low, bit = (int32(1), int32(15), int32(0)) if root else (int32(0), int32(7), int32(3))
    total, further = int32(0), int32(0)
    for j in range(count):
        code = row[j]
        value = int32(int32(128) >> int32(int32(code >> by) & low)) if code < int32(16) else int32(0)
        rest = value if int32(int32(code >> bit) & int32(1)) else int32(0)
        first[j], second[j] = uint8(value - rest), uint8(rest)
        total += int32(value - rest)
        further += rest
    return int32(total), int32(further)


@kernel(counts=True, error_model="numpy")
def powers_row(codes, count, scale, last, root, zero, out, o0):
    """s * 2^(-code / k) as float32, and 0 for the code `last` where `zero`."""
    row, values = codes[:count], out[o0 : o0 + count]
    by = 1 if root else 0
    half = scale * float32(0.7071067811865476) if root else scale
    for j in range(count):
        code = row[j]
        row[j] = max(127 - (code >> by), 0) << 23 if not (zero and code == last) else 0
        values[j] = half if code & 1 else scale
    powers = row.view(np.float32)
    for j in range(count):
        values[j] *= powers[j]

"""Dyadic requantization in a graph: clamp((I * b) >> c) as `methods.i_vit.dyadic` defines it, never negative inside.

With L the smallest accumulator that still matters (all below it saturate alike) and a zero point z of the output,

    z + ((I * b + r) >> c) = ((I - L) * b + k) >> c) + h,   h * 2^c + k = L * b + r + z * 2^c,   0 <= k < 2^c

where h is 0 wherever L is not held back by int32. So one subtraction, one product, one sum and one shift of uint64 are
left, exact for every int32 accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vitq.benchmarks.runtimes.integer_graph import arithmetic as do
from vitq.benchmarks.runtimes.integer_graph.graph import KINDS, Graph, Value
from vitq.errors import UnsupportedError
from vitq.methods.i_vit.grids import Requantize

ZERO = 128
"""Zero point of INT8 codes, which the graph holds as uint8: integer kernels of x86 want one unsigned operand."""


@dataclass(frozen=True)
class Sums:
    """int32 accumulators and, a channel or one for all, what is yet to be added and the range of both together."""

    value: Value
    offset: list[int]
    low: list[int]
    high: list[int]


def of_value(x: Value) -> Sums:
    """Codes or accumulators as they are."""
    return Sums(x, [0], [x.low], [x.high])


def to_codes(g: Graph, sums: Sums, number: Requantize) -> Value:
    """INT8 codes, as uint8 with the zero point `ZERO`; UnsupportedError for a requantization to another width."""
    if number.bits != 8:
        raise UnsupportedError(f"a requantization to {number.bits} bits where codes of 8 are wanted")
    return g.cast(_rescaled(g, sums, number, ZERO), "uint8")


def to_wide(g: Graph, sums: Sums, number: Requantize) -> Value:
    """Signed codes of up to 31 bits as int32."""
    return g.cast(_rescaled(g, sums, number, 0), "int32")


@dataclass(frozen=True)
class _Channel:
    """One channel's constants: what accumulators are held to, and b, k, c and h of the formula above."""

    first: int
    last: int
    multiplier: int
    rest: int
    shift: int
    back: int


def _channel(low: int, high: int, b: int, c: int, rounding: str, bottom: int, top: int, zero: int) -> _Channel:
    if b < 0:
        raise UnsupportedError("a ratio of scales is negative")
    half = (1 << c) >> 1 if rounding == "nearest" else 0
    first, last = low, high
    if 0 < b <= 1 << c:  # then steps are at most 1 high: what saturates first is exactly the bottom or the top
        lowest = -(((-bottom << c) + half) // b)
        highest = -((half - (top << c)) // b)
        reach = KINDS["int32"][0] // 2
        first = lowest if lowest > reach else min(max(low, lowest), highest)
        last = max(min(high, highest), first)
    back, rest = divmod(first * b + half + (zero << c), 1 << c)
    return _Channel(first, last, b, rest, c, back)


def _rescaled(g: Graph, sums: Sums, number: Requantize, zero: int) -> Value:
    """z + clamp((I * b) >> c) in a type that is not narrowed yet."""
    bottom, top = -(2 ** (number.bits - 1)), 2 ** (number.bits - 1) - 1
    bs, cs = _listed(number.multiplier), _listed(number.shift)
    count = max(len(bs), len(sums.low))
    rows = [[x[0] if len(x) == 1 else x[i] for i in range(count)] for x in (sums.low, sums.high, bs, cs, sums.offset)]
    each = [_channel(*row[:4], number.rounding, bottom, top, zero) for row in zip(*rows, strict=True)]
    moved = _from_zero(g, sums.value, [o - e.first for o, e in zip(rows[4], each, strict=True)], each, rows)
    found = _shifted(g, moved, each)
    backs = [e.back for e in each]
    if any(backs):
        kind = "int32" if found.fits("int32") else "int64"
        found = do.add(g, g.cast(found, kind), _per_channel(backs))
    return do.at_most(g, do.at_least(g, found, bottom + zero), top + zero)


def _from_zero(g: Graph, x: Value, offset: list[int], each: list[_Channel], rows: list[list[int]]) -> Value:
    """I - L, held to what matters: 0 .. U - L."""
    low = min(r - e.first for r, e in zip(rows[0], each, strict=True))
    high = max(r - e.first for r, e in zip(rows[1], each, strict=True))
    narrow = Value("", "int32", (), low, high).fits("int32") and g.constant(offset, "int64").fits("int32")
    x = g.cast(x, "int32" if narrow else "int64")
    if any(offset):
        held = g.constant(_per_channel(offset), x.kind)
        x = g.put("Add", [x, held], x.kind, x.shape, low, high)
    x = do.at_least(g, x, 0)
    last = [e.last - e.first for e in each]
    return do.at_most(g, x, _per_channel(last)) if any(r > e.last for r, e in zip(rows[1], each, strict=True)) else x


def _shifted(g: Graph, x: Value, each: list[_Channel]) -> Value:
    """((I - L) * b + k) >> c in uint64, with the largest result of any channel as its range."""
    x = g.cast(x, "uint64")
    most = [min(e.last - e.first, x.high) * e.multiplier for e in each]
    rest = [e.rest for e in each]
    b = g.constant(_per_channel([e.multiplier for e in each]), "uint64")
    product = g.put("Mul", [x, b], "uint64", x.shape, 0, max(most))
    if any(rest):
        k = g.constant(_per_channel(rest), "uint64")
        product = g.put("Add", [product, k], "uint64", x.shape, 0, max(m + r for m, r in zip(most, rest, strict=True)))
    shifts = g.constant(_per_channel([e.shift for e in each]), "uint64")
    high = max((m + e.rest) >> e.shift for m, e in zip(most, each, strict=True))
    return g.put("BitShift", [product, shifts], "uint64", x.shape, 0, high, direction="RIGHT")


def _per_channel(numbers: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    """A vector over the last dimension, or a scalar where all are one."""
    same = len(set(numbers)) == 1
    return np.asarray(numbers[0] if same else numbers, dtype=object)


def _listed(numbers: Tensor) -> list[int]:
    return [int(n) for n in numbers.reshape(-1).tolist()]

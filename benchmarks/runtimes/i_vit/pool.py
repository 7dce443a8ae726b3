# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""All constants of a network in one array a type, and where each lies: what a parallel region can be given.

A named tuple of `parts` becomes a row of integers, field by field in order: an array its offset and length in the array
of its type, a number itself, a tuple its own row. The readers below make the named tuple of the row again, in numba.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vitq.benchmarks.runtimes.i_vit.parts import LINE, Array, Attention, Join, Norm, Product, Scale, Softmax, aligned
from vitq.benchmarks.runtimes.numba_cache import kernel


class Constants(NamedTuple):
    """Flat arrays of all constants."""

    int8: Array
    uint8: Array
    int32: Array
    int64: Array


class Pool:
    """Collects constants, each of which begins at a cache line, then gives them as arrays."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Array]] = {name: [] for name in Constants._fields}
        self.sizes = dict.fromkeys(Constants._fields, 0)

    def row(self, value: Any) -> Array:
        """Keep a named tuple; its row."""
        return np.array(self._fields(value), np.int64)

    def _fields(self, value: Any) -> list[int]:
        if isinstance(value, tuple):
            return [number for field in value for number in self._fields(field)]
        return self._keep(value) if isinstance(value, np.ndarray) else [int(value)]

    def _keep(self, array: Array) -> list[int]:
        name, step = array.dtype.name, LINE // array.itemsize
        at = self.sizes[name]
        extra = -array.size % step
        self.kept[name].append(np.concatenate([array.reshape(-1), np.zeros(extra, array.dtype)]))
        self.sizes[name] += array.size + extra
        return [at, array.size]

    def arrays(self) -> Constants:
        """All that was kept, aligned."""
        return Constants(*(_aligned(self.kept[name], name) for name in Constants._fields))


def _aligned(kept: list[Array], name: str) -> Array:
    out = aligned(sum(part.size for part in kept), np.dtype(name))
    if kept:
        np.concatenate(kept, out=out)
    return out


PRODUCT, SCALE, NORM, SOFTMAX, JOIN = 7, 13, 6, 7, 37
"""Numbers in a row of each."""
ATTENTION = 2 * SCALE + SOFTMAX + 3


@kernel(counts=True)
def product_at(row, k, i8, i32):
    """A Product whose row begins at k."""
    weight, start = i8[row[k] : row[k] + row[k + 1]], i32[row[k + 2] : row[k + 2] + row[k + 3]]
    return Product(weight, start, row[k + 4], row[k + 5], row[k + 6])


@kernel(counts=True)
def scale_at(row, k, i32, i64):
    """A Scale whose row begins at k."""
    return Scale(
        i32[row[k] : row[k] + row[k + 1]], i64[row[k + 2] : row[k + 2] + row[k + 3]],
        i64[row[k + 4] : row[k + 4] + row[k + 5]], i32[row[k + 6] : row[k + 6] + row[k + 7]],
        i32[row[k + 8] : row[k + 8] + row[k + 9]], row[k + 10], row[k + 11], row[k + 12],
    )  # fmt: skip


@kernel(counts=True)
def norm_at(row, k, i32, i64):
    """A Norm whose row begins at k."""
    return Norm(i32[row[k] : row[k] + row[k + 1]], i64[row[k + 2] : row[k + 2] + row[k + 3]], row[k + 4], row[k + 5])


@kernel(counts=True)
def join_at(row, k, i32, i64):
    """A Join whose row begins at k."""
    left, right = scale_at(row, k, i32, i64), scale_at(row, k + SCALE, i32, i64)
    k += 2 * SCALE
    return Join(
        left, right, row[k], row[k + 1], i32[row[k + 2] : row[k + 2] + row[k + 3]],
        i32[row[k + 4] : row[k + 4] + row[k + 5]], i32[row[k + 6] : row[k + 6] + row[k + 7]],
        row[k + 8], row[k + 9], row[k + 10],
    )  # fmt: skip


@kernel(counts=True)
def attention_at(row, k, i8, i32, i64):
    """An Attention whose row begins at k."""
    n = k + SCALE
    softmax = Softmax(
        row[n], row[n + 1], row[n + 2], row[n + 3], row[n + 4], i64[row[n + 5] : row[n + 5] + row[n + 6]]
    )  # fmt: skip
    n += SOFTMAX
    m = n + SCALE
    return Attention(
        scale_at(row, k, i32, i64), softmax, scale_at(row, n, i32, i64), row[m],
        i8[row[m + 1] : row[m + 1] + row[m + 2]],
    )  # fmt: skip


QKV = NORM
"""Where a block's fields begin in its row."""
QKV_SCALE = QKV + PRODUCT
MIX = QKV_SCALE + SCALE
PROJ = MIX + ATTENTION
ADD1 = PROJ + PRODUCT
NORM2 = ADD1 + JOIN
FC1 = NORM2 + NORM
FC1_SCALE = FC1 + PRODUCT
GELU = FC1_SCALE + SCALE
FC2 = GELU + 2
ADD2 = FC2 + PRODUCT

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""All constants of a network in one array a type, and where each lies: what a parallel region can be given.

A named tuple of `parts` becomes a row of integers, field by field in order: an array its offset and length in the array
of its type, a number itself, a tuple its own row. The readers below make the named tuple of the row again, in numba.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from vitq.benchmarks.runtimes.i_vit.parts import Array, Block, Norm, Product, Scale, Softmax


class Constants(NamedTuple):
    """Flat arrays of all constants."""

    int8: Array
    uint8: Array
    int32: Array
    int64: Array


ALIGNMENT = 64
"""Bytes at whose multiples every constant begins, so that no vector of it straddles two cache lines."""


class Pool:
    """Collects constants, then gives them as arrays."""

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
        name, step = array.dtype.name, ALIGNMENT // array.itemsize
        at = self.sizes[name]
        extra = -array.size % step
        self.kept[name].append(np.concatenate([array.reshape(-1), np.zeros(extra, array.dtype)]))
        self.sizes[name] += array.size + extra
        return [at, array.size]

    def arrays(self) -> Constants:
        """All that was kept, aligned."""
        return Constants(*(_aligned(self.kept[name], name) for name in Constants._fields))


def _aligned(parts: list[Array], name: str) -> Array:
    size = sum(part.size for part in parts)
    raw = np.zeros(size * np.dtype(name).itemsize + ALIGNMENT, np.uint8)
    begin = -raw.ctypes.data % ALIGNMENT
    out: Array = raw[begin : begin + size * np.dtype(name).itemsize].view(name)
    if parts:
        np.concatenate(parts, out=out)
    return out


PRODUCT, SCALE, NORM, SOFTMAX = 7, 13, 6, 5
"""Numbers in a row of each."""


@njit(cache=True)
def product_at(row, k, i8, i32):
    """A Product whose row begins at k."""
    weight, start = i8[row[k] : row[k] + row[k + 1]], i32[row[k + 2] : row[k + 2] + row[k + 3]]
    return Product(weight, start, row[k + 4], row[k + 5], row[k + 6])


@njit(cache=True)
def scale_at(row, k, i32, i64):
    """A Scale whose row begins at k."""
    return Scale(
        i32[row[k] : row[k] + row[k + 1]], i64[row[k + 2] : row[k + 2] + row[k + 3]],
        i64[row[k + 4] : row[k + 4] + row[k + 5]], i32[row[k + 6] : row[k + 6] + row[k + 7]],
        i32[row[k + 8] : row[k + 8] + row[k + 9]], row[k + 10], row[k + 11], row[k + 12],
    )  # fmt: skip


@njit(cache=True)
def norm_at(row, k, i32, i64):
    """A Norm whose row begins at k."""
    return Norm(i32[row[k] : row[k] + row[k + 1]], i64[row[k + 2] : row[k + 2] + row[k + 3]], row[k + 4], row[k + 5])


@njit(cache=True)
def block_at(row, i8, u8, i32, i64):
    """A Block."""
    k = 0
    norm1 = norm_at(row, k, i32, i64)
    k += NORM
    qkv = product_at(row, k, i8, i32)
    k += PRODUCT
    qkv_scale = scale_at(row, k, i32, i64)
    k += SCALE
    qk = scale_at(row, k, i32, i64)
    k += SCALE
    softmax = Softmax(row[k], row[k + 1], row[k + 2], i64[row[k + 3] : row[k + 3] + row[k + 4]])
    k += SOFTMAX
    av = scale_at(row, k, i32, i64)
    k += SCALE
    proj = product_at(row, k, i8, i32)
    k += PRODUCT
    left1 = scale_at(row, k, i32, i64)
    k += SCALE
    right1 = scale_at(row, k, i32, i64)
    k += SCALE
    top1 = row[k]
    k += 1
    norm2 = norm_at(row, k, i32, i64)
    k += NORM
    fc1 = product_at(row, k, i8, i32)
    k += PRODUCT
    fc1_scale = scale_at(row, k, i32, i64)
    k += SCALE
    gelu = u8[row[k] : row[k] + row[k + 1]]
    k += 2
    fc2 = product_at(row, k, i8, i32)
    k += PRODUCT
    left2 = scale_at(row, k, i32, i64)
    k += SCALE
    right2 = scale_at(row, k, i32, i64)
    return Block(
        norm1, qkv, qkv_scale, qk, softmax, av, proj, left1, right1, top1, norm2, fc1, fc1_scale, gelu, fc2, left2,
        right2, row[k + SCALE],
    )  # fmt: skip

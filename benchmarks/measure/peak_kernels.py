# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""What the engines' own kernels and plain loops can do at most: products without what engines do around them.

Needs numba; imported where it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import int64, prange
from numpy.typing import NDArray

from vitq.benchmarks.runtimes.i_vit.tiles import tile
from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS, ROWS, VNNI
from vitq.benchmarks.runtimes.numba_cache import kernel
from vitq.benchmarks.runtimes.numba_threads import use_threads
from vitq.benchmarks.runtimes.xnor import kernels
from vitq.benchmarks.runtimes.xnor.words import COLUMNS as WORD_COLUMNS
from vitq.benchmarks.runtimes.xnor.words import ROWS as WORD_ROWS
from vitq.errors import UnsupportedError

CHUNK = 8 * ROWS
"""Rows that a thread takes at once: with 768 inputs they and a panel of weights fit the second cache."""
CHECKED_ROWS = 7
Call = Callable[[], Any]


@kernel(counts=True, parallel=True)
def _product(a, rows, inputs, weight, start, panels, steps, out):
    for chunk in prange(rows // CHUNK):
        for panel in range(panels):
            for r in range(chunk * CHUNK, (chunk + 1) * CHUNK, ROWS):
                tile(a, r * inputs, inputs, weight, panel * steps * 4 * COLUMNS, start, panel * COLUMNS, out, r * panels * COLUMNS + panel * COLUMNS, panels * COLUMNS, steps)  # fmt: skip # noqa: E501


@kernel(counts=True, parallel=True)
def _copy(source, target, parts):
    for part in prange(parts):
        first, last = part * len(source) // parts, (part + 1) * len(source) // parts
        target[first:last] = source[first:last]


@kernel(counts=True, parallel=True)
def _sum(source, parts, sums):
    for part in prange(parts):
        own = source[part * len(source) // parts : (part + 1) * len(source) // parts]
        total = int64(0)
        for i in range(len(own)):
            total += own[i]
        sums[part] = total


def int8_tile(rows: int, inputs: int, outputs: int, threads: int) -> Call:
    """uint8 [rows, inputs] @ int8 [inputs, outputs] by the tile that I-ViT's engine is made of.

    Rows come in chunks of 48, inputs in fours, outputs in panels of 64. UnsupportedError for a CPU without VNNI, or
    where the product is wrong.
    """
    if not VNNI:
        raise UnsupportedError("this CPU has no AVX-512 VNNI")
    random = np.random.default_rng(0)
    a = random.integers(0, 256, (rows, inputs), np.uint8)
    b = random.integers(-128, 128, (inputs, outputs), np.int8)
    panels, steps = outputs // COLUMNS, inputs // 4
    packed = np.ascontiguousarray(b.reshape(steps, 4, panels, COLUMNS).transpose(2, 0, 3, 1)).reshape(-1)
    flat, start, out = a.reshape(-1), np.zeros(outputs, np.int32), np.zeros(rows * outputs, np.int32)
    use_threads(threads)
    _product(flat, rows, inputs, packed, start, panels, steps, out)
    wanted = a[-CHECKED_ROWS:].astype(np.int64) @ b.astype(np.int64)
    _held(out.reshape(rows, outputs)[-CHECKED_ROWS:], wanted)
    return lambda: _product(flat, rows, inputs, packed, start, panels, steps, out)


def binary_linear(rows: int, inputs: int, outputs: int, threads: int) -> Call:
    """Signs [rows, inputs] @ signs [inputs, outputs] by the kernel of BinaryViT's engine: xor, popcount, a factor.

    Inputs come in words of 64, rows in eights, outputs in panels of 16. UnsupportedError where the product is wrong.
    """
    random, words = np.random.default_rng(0), inputs // 64
    a = random.integers(0, 2**64, (rows, words), np.uint64)
    b = random.integers(0, 2**64, (outputs, words), np.uint64)
    panels = np.zeros(outputs * words, np.uint64)
    kernels.panels(b.reshape(-1), outputs, words, panels)
    flat, out = a.reshape(-1), np.zeros(rows * outputs, np.float32)
    factor, acc = np.ones(outputs, np.float32), np.zeros((threads, WORD_ROWS * WORD_COLUMNS), np.int64)
    arguments = (flat, rows, words, inputs, panels, outputs, factor, factor, False, out, acc)
    use_threads(threads)
    kernels.linear(*arguments)
    left, right = _signs(a[-CHECKED_ROWS:]), _signs(b)
    _held(out.reshape(rows, outputs)[-CHECKED_ROWS:], left @ right.T)
    return lambda: kernels.linear(*arguments)


def _signs(words: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Words [n, w] as +1 for a set bit and -1 for none [n, 64 w]."""
    return np.unpackbits(words.view(np.uint8), axis=1).astype(np.int32) * 2 - 1


def copy_loop(count: int, threads: int) -> Call:
    """A copy of `count` int64, a part for each thread."""
    source, target = np.arange(count, dtype=np.int64), np.zeros(count, np.int64)
    use_threads(threads)
    _copy(source, target, threads)
    _held(target, source)
    return lambda: _copy(source, target, threads)


def read_loop(count: int, threads: int) -> Call:
    """The sum of `count` int64, a part for each thread."""
    source, sums = np.arange(count, dtype=np.int64), np.zeros(threads, np.int64)
    use_threads(threads)
    _sum(source, threads, sums)
    _held(sums.sum(), np.int64(count * (count - 1) // 2))
    return lambda: _sum(source, threads, sums)


def _held(got: Any, wanted: Any) -> None:
    if not np.array_equal(got, wanted):
        raise UnsupportedError("its numbers are wrong, so that it is not timed")

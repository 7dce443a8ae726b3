"""What kernels are given: packed weights, dyadic numbers and constants as named tuples of flat arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS
from vitq.errors import UnsupportedError
from vitq.methods.i_vit.forms import RESIDUAL_BITS
from vitq.methods.i_vit.grids import Requantize
from vitq.methods.i_vit.layernorm import IntegerLayerNorm
from vitq.methods.i_vit.linear import IntegerLinear
from vitq.methods.i_vit.sums import IntegerAdd

Array = NDArray[Any]


class Product(NamedTuple):
    """INT8 weights packed in panels [panels, steps, 64, 4], and where an accumulator starts.

    Activations are held as code + 128 in uint8, so that start = bias - 128 * sum of the channel's weights, which wraps
    around in int32 as the sum does.
    """

    weight: Array
    start: Array
    panels: int
    steps: int
    columns: int


class Scale(NamedTuple):
    """Dyadic numbers a channel, padded to whole panels, and the clamp.

    Where every shift is at least 33, (b*I + 2^(c-1)) >> c = ((b*I >> 32) + 2^(c-33)) >> (c-32) exactly, which
    is done in 32 bits (`high`).
    """

    multiplier: Array
    half: Array
    shift: Array
    half32: Array
    shift32: Array
    high: bool
    low: int
    top: int


class Norm(NamedTuple):
    """I-LayerNorm's integers; `bias` includes what rounds to nearest."""

    multiplier: Array
    bias: Array
    shift: int
    channels: int


def padded(size: int, multiple: int) -> int:
    """The next multiple."""
    return -(-size // multiple) * multiple


def product_of(node: IntegerLinear) -> Product:
    """A linear layer's weights, packed."""
    weight: Array = node.weight.flatten(1).cpu().numpy()
    out, inputs = weight.shape
    wide = np.zeros((padded(out, COLUMNS), padded(inputs, 4)), np.int8)
    wide[:out, :inputs] = weight
    panels, steps = wide.shape[0] // COLUMNS, wide.shape[1] // 4
    packed = wide.reshape(panels, COLUMNS, steps, 4).transpose(0, 2, 1, 3)
    start = -128 * wide.astype(np.int64).sum(1)
    if node.bias is not None:
        start[:out] += node.bias.cpu().numpy()
    return Product(np.ascontiguousarray(packed).reshape(-1), start.astype(np.int32), panels, steps, out)


def scale_of(number: Requantize, channels: int) -> Scale:
    """A requantization's dyadic numbers, one a channel even where all are the same."""
    width = padded(channels, COLUMNS)
    multiplier, shift = np.zeros(width, np.int32), np.full(width, 40, np.int64)
    multiplier[:channels] = number.multiplier.cpu().numpy()
    shift[:channels] = number.shift.cpu().numpy()
    nearest = number.rounding == "nearest"
    half = (np.int64(1) << shift) >> 1 if nearest else np.zeros_like(shift)
    high = bool((shift >= 33).all())
    shift32 = (shift - 32 if high else np.zeros_like(shift)).astype(np.int32)
    half32 = (half >> 32 if high else np.zeros_like(shift)).astype(np.int32)
    top = 2 ** (number.bits - 1)
    return Scale(multiplier, half, shift, half32, shift32, high, -top, top - 1)


def aligned(shape: int | tuple[int, int], kind: Any) -> Array:
    """Zeros that begin at a cache line, as does every row whose length is a multiple of 64 bytes; rows are made so."""
    lines = shape if isinstance(shape, tuple) else (1, shape)
    size = np.dtype(kind).itemsize
    width = padded(lines[1] * size, LINE) // size
    raw = np.zeros(lines[0] * width * size + LINE, np.uint8)
    begin = -raw.ctypes.data % LINE
    whole: Array = raw[begin : begin + lines[0] * width * size].view(kind)
    return whole.reshape(lines[0], width) if isinstance(shape, tuple) else whole[:shape]


LINE = 64
"""Bytes of a cache line."""
LIMIT = 2**31
STREAM = 2 ** (RESIDUAL_BITS - 1)
"""The largest magnitude of the residual stream."""


def join_of(node: IntegerAdd, product: Product, node_of: IntegerLinear) -> Join:
    """The sum of a linear layer's accumulators with the stream, in 32 bits where that is exact."""
    left, right = scale_of(node.left, product.columns), scale_of(node.right, 1)
    top = 2 ** (node.bits - 1) - 1
    up, right_up = np.maximum(33 - left.shift, 0), max(33 - int(right.shift[0]), 0)
    reach = np.zeros(len(left.shift), np.float64)
    reach[: product.columns] = _reach(node_of)
    fits = _fits(reach, left, up) and _fits(np.full(1, float(STREAM)), right, np.full(1, right_up))
    narrow = fits and node.bits <= RESIDUAL_BITS
    up = np.where(narrow, up, 0)
    right_up = right_up if narrow else 0
    shift, right_shift = left.shift + up, int(right.shift[0]) + right_up
    half, right_half = left.half << up >> 32, int(right.half[0]) << right_up >> 32
    numbers = half.astype(np.int32), (shift - 32).astype(np.int32), up.astype(np.int32)
    return Join(
        left, right, top, narrow, numbers[0], numbers[1], numbers[2], right_half, right_shift - 32, right_up
    )  # fmt: skip


def _reach(node: IntegerLinear) -> Array:
    """The largest magnitude of each channel's accumulators: of codes down to -128."""
    found: Array = 128.0 * node.weight.flatten(1).cpu().double().abs().sum(1).numpy()
    return found if node.bias is None else found + np.abs(flat(node.bias).astype(np.float64))


def _fits(reach: Array, scale: Scale, up: Array) -> bool:
    """Whether codes of these magnitudes stay in 32 bits when shifted, and below the clamp when rescaled."""
    count = len(reach)
    ratio = np.abs(scale.multiplier[:count].astype(np.float64)) / 2.0 ** scale.shift[:count]
    shifts = scale.shift[:count] + up[:count]
    return bool(
        (reach * 2.0 ** up[:count] < LIMIT).all() and (reach * ratio + 2 < scale.top).all() and (shifts <= 62).all()
    )


def stream_scale(node: IntegerLinear) -> Scale:
    """A linear layer's requantization to codes of the residual stream; UnsupportedError for another width."""
    if node.out is None or node.out.bits != RESIDUAL_BITS:
        raise UnsupportedError(f"the engine serves a residual stream of {RESIDUAL_BITS} bits")
    return scale_of(node.out, node.weight.shape[0])


def norm_of(node: IntegerLayerNorm) -> Norm:
    """A LayerNorm's integers."""
    shift = int(node.shift)
    half = (1 << shift) >> 1 if node.rounding == "nearest" else 0
    multiplier, bias = (flat(x) for x in (node.multiplier, node.bias))
    return Norm(multiplier.astype(np.int32), bias.astype(np.int64) + half, shift, len(multiplier))


def flat(tensor: Tensor) -> Array:
    """A tensor as an array of one dimension."""
    found: Array = tensor.cpu().numpy().reshape(-1)
    return found


class Softmax(NamedTuple):
    """Shiftmax to `bits` bits: I_0, what divides by it in 32 bits, whether that holds, and the exponentials.

    `table` has those of distances 0, 1, ... to the largest logit. `apart` is how far a masked token lies below its own
    logit; 0 where its exponential is 0 in any case.
    """

    one: int
    magic: int
    narrow: bool
    bits: int
    apart: int
    table: Array


class Join(NamedTuple):
    """The sum of a branch's accumulators with the stream, clamped to `top`.

    `narrow`: in 32 bits. Both operands can be shifted left (`up`) without overflow until their shifts are 33 or more,
    see `Scale`, and neither reaches the clamp of an operand; both by the largest magnitude that weights, biases and the
    stream's clamp allow.
    """

    left: Scale
    right: Scale
    top: int
    narrow: bool
    half: Array
    shift: Array
    up: Array
    right_half: int
    right_shift: int
    right_up: int


class Attention(NamedTuple):
    """What lies between queries, keys and values and what is mixed of them.

    `bias` are int8 codes [heads, rows, panels, 64] where `biased`, rows being whole tiles.
    """

    qk: Scale
    softmax: Softmax
    av: Scale
    biased: bool
    bias: Array


class Work(NamedTuple):
    """What a thread needs for an attention head; with all threads' in one array each, a row a thread.

    `middle` is 128 everywhere, the code of zero, and so is `gathered` past the last token.
    """

    keys: Array
    keys4: Array
    values: Array
    values4: Array
    start: Array
    zeros: Array
    acc: Array
    logits: Array
    powers: Array
    shares: Array
    shares16: Array
    wide: Array
    mixed: Array
    queries: Array
    gathered: Array
    middle: Array


class Block(NamedTuple):
    """A block's constants."""

    norm1: Norm
    qkv: Product
    qkv_scale: Scale
    attention: Attention
    proj: Product
    add1: Join
    norm2: Norm
    fc1: Product
    fc1_scale: Scale
    gelu: Array
    fc2: Product
    add2: Join

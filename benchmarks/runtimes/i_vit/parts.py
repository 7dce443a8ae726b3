"""What kernels are given: packed weights, dyadic numbers and constants as named tuples of flat arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS
from vitq.methods.i_vit.grids import Requantize
from vitq.methods.i_vit.layernorm import IntegerLayerNorm
from vitq.methods.i_vit.linear import IntegerLinear

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


def norm_of(node: IntegerLayerNorm) -> Norm:
    """A LayerNorm's integers."""
    shift = int(node.shift)
    half = (1 << shift) >> 1 if node.rounding == "nearest" else 0
    multiplier, bias = (_flat(x) for x in (node.multiplier, node.bias))
    return Norm(multiplier.astype(np.int32), bias.astype(np.int64) + half, shift, len(multiplier))


def _flat(tensor: Tensor) -> Array:
    flat: Array = tensor.cpu().numpy().reshape(-1)
    return flat


class Softmax(NamedTuple):
    """Shiftmax: I_0, what divides by it in 32 bits, whether that holds, and exponentials of 0, -1, ... -255."""

    one: int
    magic: int
    narrow: bool
    table: Array


class Work(NamedTuple):
    """What a thread needs for an attention head; with all threads' in one array each, a row a thread."""

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


class Block(NamedTuple):
    """A block's constants."""

    norm1: Norm
    qkv: Product
    qkv_scale: Scale
    qk: Scale
    softmax: Softmax
    av: Scale
    proj: Product
    left1: Scale
    right1: Scale
    top1: int
    norm2: Norm
    fc1: Product
    fc1_scale: Scale
    gelu: Array
    fc2: Product
    left2: Scale
    right2: Scale
    top2: int

"""Integer arithmetic on values of a graph: sums, products, shifts and divisions that floor, with the range of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from vitq.benchmarks.runtimes.integer_graph.graph import Graph, Value


def _pair(g: Graph, x: Value, y: Value | Any) -> tuple[Value, Value, tuple[int, ...]]:
    other = y if isinstance(y, Value) else g.constant(y, x.kind)
    return x, other, np.broadcast_shapes(x.shape, other.shape)


def add(g: Graph, x: Value, y: Value | Any) -> Value:
    """x + y in the type of x."""
    x, y, shape = _pair(g, x, y)
    return g.put("Add", [x, y], x.kind, shape, x.low + y.low, x.high + y.high)


def subtract(g: Graph, x: Value, y: Value | Any, low: int | None = None) -> Value:
    """x - y in the type of x; `low` where the caller knows a larger one, as of a row's maximum less its members."""
    x, y, shape = _pair(g, x, y)
    return g.put("Sub", [x, y], x.kind, shape, x.low - y.high if low is None else low, x.high - y.low)


def subtract_from(g: Graph, number: int, x: Value) -> Value:
    """number - x in the type of x."""
    return subtract(g, g.constant(number, x.kind), x)


def multiply(g: Graph, x: Value, y: Value | Any, bound: int | None = None) -> Value:
    """x * y in the type of x; `bound` is the largest magnitude where the caller has proved a smaller one."""
    x, y, shape = _pair(g, x, y)
    ends = [a * b for a in (x.low, x.high) for b in (y.low, y.high)]
    low, high = min(ends), max(ends)
    if bound is not None:
        low, high = max(low, -bound), min(high, bound)
    return g.put("Mul", [x, y], x.kind, shape, low, high)


def square(g: Graph, x: Value) -> Value:
    """x * x in the type of x."""
    return g.put("Mul", [x, x], x.kind, x.shape, 0, max(x.low * x.low, x.high * x.high))


def divide(g: Graph, x: Value, y: Value | Any) -> Value:
    """floor(x / y) of x >= 0 and y >= 1 in the type of x; ValueError for others, which ONNX would truncate."""
    x, y, shape = _pair(g, x, y)
    if x.low < 0 or y.low < 1:
        raise ValueError("an integer division truncates: give it numbers that are not negative")
    return g.put("Div", [x, y], x.kind, shape, x.low // y.high, x.high // y.low)


def quotient(g: Graph, number: int, x: Value) -> Value:
    """floor(number / x) in the type of x."""
    return divide(g, g.constant(number, x.kind), x)


def right(g: Graph, x: Value, shift: Value | Any) -> Value:
    """x >> shift of an unsigned x."""
    x, by, shape = _pair(g, x, shift)
    return g.put("BitShift", [x, by], x.kind, shape, x.low >> by.high, x.high >> by.low, direction="RIGHT")


def left(g: Graph, x: Value, shift: int) -> Value:
    """x << shift of an unsigned x."""
    x, by, shape = _pair(g, x, shift)
    return g.put("BitShift", [x, by], x.kind, shape, x.low << shift, x.high << shift, direction="LEFT")


def at_least(g: Graph, x: Value, y: Value | Any) -> Value:
    """max(x, y); x itself where nothing of it is smaller."""
    if not isinstance(y, Value) and x.low >= int(np.max(y)):
        return x
    x, y, shape = _pair(g, x, y)
    return g.put("Max", [x, y], x.kind, shape, max(x.low, y.low), max(x.high, y.high))


def at_most(g: Graph, x: Value, y: Value | Any) -> Value:
    """min(x, y); x itself where nothing of it is larger."""
    if not isinstance(y, Value) and x.high <= int(np.min(y)):
        return x
    x, y, shape = _pair(g, x, y)
    return g.put("Min", [x, y], x.kind, shape, min(x.low, y.low), min(x.high, y.high))


def largest(g: Graph, x: Value) -> Value:
    """The largest of each row, [..., 1]."""
    axis = g.constant([len(x.shape) - 1], "int64")
    return g.put("ReduceMax", [x, axis], x.kind, (*x.shape[:-1], 1), x.low, x.high, keepdims=1)


def total(g: Graph, x: Value) -> Value:
    """The sum of each row, [..., 1]."""
    axis, count = g.constant([len(x.shape) - 1], "int64"), x.shape[-1]
    return g.put("ReduceSum", [x, axis], x.kind, (*x.shape[:-1], 1), x.low * count, x.high * count, keepdims=1)


def floor_shift(g: Graph, x: Value, shift: int) -> Value:
    """x >> shift of a signed int64 x as int64: a multiple of 2^shift above it goes in first, and comes out again."""
    above = -(min(x.low, 0) // 2**shift)
    moved = right(g, g.cast(add(g, x, above << shift) if above else x, "uint64"), shift)
    found = g.cast(moved, "int64")
    return subtract(g, found, above) if above else found


def floor_divide(g: Graph, x: Value, by: int) -> Value:
    """floor(x / by) of a signed x, by the same way."""
    above = -(min(x.low, 0) // by)
    found = divide(g, add(g, x, above * by) if above else x, by)
    return subtract(g, found, above) if above else found

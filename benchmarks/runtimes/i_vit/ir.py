"""Vectors in LLVM's own words: what numba's loops cannot say, as code that every CPU has, in vectors of 16 numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

I8, I16, I32, I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
LANES = 16
"""32-bit numbers in a vector."""
V32 = ir.VectorType(I32, LANES)
V8 = ir.VectorType(I8, LANES)
HALF = ir.VectorType(I64, LANES // 2)
BYTES = ir.VectorType(I8, 64)

Value = Any
"""A value of llvmlite, which has no types of its own for them."""


def at(context: Value, builder: Value, kind: Value, array: Value, offset: Value) -> Value:
    """The address of an element of a numba array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])


def load(builder: Value, address: Value, offset: Value, kind: Value) -> Value:
    """An unaligned load at an address plus an offset in bytes."""
    pointer = builder.gep(builder.bitcast(address, I8.as_pointer()), [offset])
    loaded = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    loaded.align = 1
    return loaded


def store(builder: Value, value: Value, address: Value, offset: Value) -> None:
    """An unaligned store at an address plus an offset in bytes."""
    pointer = builder.gep(builder.bitcast(address, I8.as_pointer()), [offset])
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = 1


def splat(builder: Value, value: Value, lanes: int = LANES) -> Value:
    """A vector of one value."""
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    whole = builder.insert_element(empty, value, I32(0))
    return builder.shuffle_vector(whole, empty, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def every(kind: Value, value: int) -> Value:
    """A constant vector of one number."""
    return ir.Constant(kind, [value] * kind.count)


def smaller(builder: Value, left: Value, right: Value) -> Value:
    """The signed minimum."""
    return builder.select(builder.icmp_signed("<", left, right), left, right)


def larger(builder: Value, left: Value, right: Value) -> Value:
    """The signed maximum."""
    return builder.select(builder.icmp_signed(">", left, right), left, right)


def clamp(builder: Value, value: Value, low: int, high: int) -> Value:
    """Held within two constants."""
    return larger(builder, smaller(builder, value, every(value.type, high)), every(value.type, low))


def high_product(builder: Value, left: Value, right: Value, *, signed: bool = True) -> Value:
    """The upper halves of 32-bit products, (left * right) >> 32, from the products of even and of odd numbers."""
    by = every(HALF, 32)
    shift = builder.ashr if signed else builder.lshr

    def even(x: Value) -> Value:
        return shift(builder.shl(builder.bitcast(x, HALF), by), by)

    def odd(x: Value) -> Value:
        return shift(builder.bitcast(x, HALF), by)

    evens = builder.bitcast(builder.mul(even(left), even(right)), V32)
    odds = builder.bitcast(builder.mul(odd(left), odd(right)), V32)
    order = [lane + 1 if lane % 2 == 0 else LANES + lane for lane in range(LANES)]
    return builder.shuffle_vector(evens, odds, ir.Constant(V32, order))


def to_codes(builder: Value, value: Value) -> Value:
    """Sixteen int32 clamped to 8 bits, as code + 128."""
    narrow = builder.trunc(clamp(builder, value, -128, 127), V8)
    return builder.xor(narrow, every(V8, -128))


Body = Callable[[Value, Sequence[Value]], Sequence[Value]]


def loop(builder: Value, count: Value, step: int, carried: Sequence[Value], body: Body, name: str) -> list[Value]:
    """`for index in range(0, count, step)`, at least once: what the body makes of `carried`, at the end."""
    before = builder.block
    inside, done = builder.append_basic_block(name), builder.append_basic_block(f"{name}.end")
    builder.branch(inside)
    builder.position_at_end(inside)
    index = builder.phi(I64)
    index.add_incoming(I64(0), before)
    phis = [builder.phi(value.type) for value in carried]
    for phi, value in zip(phis, carried, strict=True):
        phi.add_incoming(value, before)
    found = list(body(index, phis))
    following = builder.add(index, I64(step))
    end = builder.block
    index.add_incoming(following, end)
    for phi, value in zip(phis, found, strict=True):
        phi.add_incoming(value, end)
    builder.cbranch(builder.icmp_signed("<", following, count), inside, done)
    builder.position_at_end(done)
    return found


def sum_of(builder: Value, vector: Value) -> Value:
    """The sum of a vector's numbers, wrapping."""
    return _reduced(builder, vector, builder.add)


def largest_of(builder: Value, vector: Value) -> Value:
    """The unsigned maximum of a vector's numbers."""

    def pick(left: Value, right: Value) -> Value:
        return builder.select(builder.icmp_unsigned(">", left, right), left, right)

    return _reduced(builder, vector, pick)


def _reduced(builder: Value, vector: Value, join: Callable[[Value, Value], Value]) -> Value:
    lanes = vector.type.count
    while lanes > 1:
        lanes //= 2
        low, high = (ir.Constant(ir.VectorType(I32, lanes), list(range(i, i + lanes))) for i in (0, lanes))
        vector = join(builder.shuffle_vector(vector, vector, low), builder.shuffle_vector(vector, vector, high))
    return builder.extract_element(vector, I32(0))

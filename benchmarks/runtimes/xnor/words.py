"""What numba's own loops cannot say: 64 comparisons to a word, and a tile of a binary product held in registers.

LLVM's ctpop becomes VPOPCNTDQ where the CPU has it and shifts and sums elsewhere, so that one form serves every CPU.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

ROWS = 8
"""Rows of a tile: with two vectors of columns they fill 16 of AVX-512's 32 registers."""
COLUMNS = 16
"""Columns of a tile and of a panel of packed weights, two vectors of eight 64-bit words."""

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
F64 = ir.VectorType(F32, 64)
V8 = ir.VectorType(I64, 8)
F8 = ir.VectorType(F32, 8)


def address_of(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    """The address of an array's element `offset`."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [offset])


def load(builder: Any, address: Any, kind: Any) -> Any:
    """A value of `kind` at an address, of any alignment that int32 has."""
    loaded = builder.load(builder.bitcast(address, kind.as_pointer()))
    loaded.align = 4
    return loaded


def splat(builder: Any, value: Any, kind: Any) -> Any:
    """A vector that holds `value` everywhere."""
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, value, I32(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


@intrinsic  # type: ignore[untyped-decorator]
def signs64(typing_context: Any, x: Any, x0: Any, s: Any, s0: Any) -> Any:  # noqa: ARG001
    """The word of x[x0 + i] + s[s0 + i] >= 0 for 64 float32 i, first bit lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        xs, x_at, ss, s_at = arguments
        left = load(builder, address_of(context, builder, signature.args[0], xs, x_at), F64)
        right = load(builder, address_of(context, builder, signature.args[2], ss, s_at), F64)
        bits = builder.fcmp_ordered(">=", builder.fadd(left, right), ir.Constant(F64, [0.0] * 64))
        return builder.bitcast(bits, I64)

    return types.uint64(x, types.int64, s, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def above64(typing_context: Any, x: Any, x0: Any, scale: Any) -> Any:  # noqa: ARG001
    """The word of x[x0 + i] / scale > 0.5 for 64 float32 i, first bit lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        xs, x_at, by = arguments
        left = load(builder, address_of(context, builder, signature.args[0], xs, x_at), F64)
        bits = builder.fcmp_ordered(">", builder.fdiv(left, splat(builder, by, F64)), ir.Constant(F64, [0.5] * 64))
        return builder.bitcast(bits, I64)

    return types.uint64(x, types.int64, types.float32), generate


def tile_code(context: Any, builder: Any, signature: Any, arguments: Any, both: bool, narrow: bool = False) -> None:
    """acc[ROWS, COLUMNS] = popcounts over `steps` words of a xor b (or of a and b), int64 or, narrow, int32."""
    acc, steps = arguments[4:]
    kinds = signature.args
    a_at, b_at = (address_of(context, builder, kinds[i], arguments[i], arguments[i + 1]) for i in (0, 2))
    c_at = address_of(context, builder, kinds[4], acc, I64(0))
    count = builder.module.declare_intrinsic("llvm.ctpop.v8i64", (), ir.FunctionType(V8, [V8]))
    zero, none = I64(0), ir.Constant(V8, [0] * 8)
    rows = [builder.mul(I64(r), steps) for r in range(ROWS)]
    before = builder.block
    loop, done = builder.append_basic_block("words"), builder.append_basic_block("words.end")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(I64)
    step.add_incoming(zero, before)
    sums = [[builder.phi(V8) for _ in range(2)] for _ in range(ROWS)]
    for row in sums:
        for phi in row:
            phi.add_incoming(none, before)
    at = builder.mul(step, I64(COLUMNS))
    right = [load(builder, builder.gep(b_at, [builder.add(at, I64(8 * v))]), V8) for v in range(2)]
    news = []
    for r in range(ROWS):
        left = splat(builder, builder.load(builder.gep(a_at, [builder.add(rows[r], step)])), V8)
        joined = [builder.and_(left, w) if both else builder.xor(left, w) for w in right]
        news.append([builder.add(sums[r][v], builder.call(count, [joined[v]])) for v in range(2)])
    following = builder.add(step, I64(1))
    end = builder.block
    step.add_incoming(following, end)
    for row, new in zip(sums, news, strict=True):
        for phi, value in zip(row, new, strict=True):
            phi.add_incoming(value, end)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)
    builder.position_at_end(done)
    for r in range(ROWS):
        for v in range(2):
            place = builder.gep(c_at, [I64(COLUMNS * r + 8 * v)])
            if narrow:
                few = builder.trunc(news[r][v], ir.VectorType(I32, 8))
                builder.store(few, builder.bitcast(place, few.type.as_pointer())).align = 4
            else:
                builder.store(news[r][v], builder.bitcast(place, V8.as_pointer())).align = 8


@intrinsic  # type: ignore[untyped-decorator]
def differing(typing_context: Any, a: Any, a0: Any, b: Any, b0: Any, acc: Any, steps: Any) -> Any:  # noqa: ARG001
    """acc[8, 16] = popcount(a xor b) over `steps` words: a has 8 rows of so many, b a panel [steps, 16]; all flat."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tile_code(context, builder, signature, arguments, both=False)
        return context.get_dummy_value()

    i = types.int64
    return types.void(a, i, b, i, acc, i), generate


@intrinsic  # type: ignore[untyped-decorator]
def common(typing_context: Any, a: Any, a0: Any, b: Any, b0: Any, acc: Any, steps: Any) -> Any:  # noqa: ARG001
    """As `differing`, of a and b."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tile_code(context, builder, signature, arguments, both=True)
        return context.get_dummy_value()

    i = types.int64
    return types.void(a, i, b, i, acc, i), generate


@intrinsic  # type: ignore[untyped-decorator]
def popcount(typing_context: Any, word: Any) -> Any:  # noqa: ARG001
    """Set bits of a word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate

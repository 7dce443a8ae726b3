"""Scalar and vector operations that fix a bit of float32: what torch's vectorized functions are made of."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vitq.benchmarks.runtimes.xnor.words import F32, F64, I32, I64, address_of, load, splat, tile_code

F16 = ir.VectorType(F32, 16)


@intrinsic  # type: ignore[untyped-decorator]
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:  # noqa: ARG001
    """a * b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.fma(*arguments)

    f = types.float32
    return f(f, f, f), generate


@intrinsic  # type: ignore[untyped-decorator]
def nearest(typing_context: Any, x: Any) -> Any:  # noqa: ARG001
    """The nearest integer to x, halves to even, as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [F32]), arguments)

    return types.float32(types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def power_of_two(typing_context: Any, exponent: Any) -> Any:  # noqa: ARG001
    """2^exponent for an integral float32 of -126 to 127, from its bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        biased = builder.add(builder.fptosi(arguments[0], I32), I32(127))
        return builder.bitcast(builder.shl(biased, I32(23)), F32)

    return types.float32(types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def times_at_least64(typing_context: Any, x: Any, x0: Any, by: Any, least: Any) -> Any:  # noqa: ARG001
    """The word of x[x0 + i] * by >= least for 64 float32 i, first bit lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        xs, x_at, by_, least_ = arguments
        left = load(builder, address_of(context, builder, signature.args[0], xs, x_at), F64)
        bits = builder.fcmp_ordered(">=", builder.fmul(left, splat(builder, by_, F64)), splat(builder, least_, F64))
        return builder.bitcast(bits, I64)

    return types.uint64(x, types.int64, types.float32, types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def lanes_sum(typing_context: Any, x: Any, groups: Any, rest: Any) -> Any:  # noqa: ARG001
    """The sum of 16 groups + rest float32 in torch's order: 16 lanes, the rest to the first of them, then halves.

    `x` has `groups` >= 1 groups of 16 and behind them one more, of which only the first `rest` count.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        xs, groups_, rest_ = arguments
        start = address_of(context, builder, signature.args[0], xs, I64(0))
        first = load(builder, start, F16)
        before = builder.block
        check, body, done = (builder.append_basic_block(f"lanes.{name}") for name in ("check", "body", "done"))
        builder.branch(check)
        builder.position_at_end(check)
        group, total = builder.phi(I64), builder.phi(F16)
        group.add_incoming(I64(1), before)
        total.add_incoming(first, before)
        builder.cbranch(builder.icmp_signed("<", group, groups_), body, done)
        builder.position_at_end(body)
        more = builder.fadd(total, load(builder, builder.gep(start, [builder.mul(group, I64(16))]), F16))
        group.add_incoming(builder.add(group, I64(1)), body)
        total.add_incoming(more, body)
        builder.branch(check)
        builder.position_at_end(done)
        last = load(builder, builder.gep(start, [builder.mul(groups_, I64(16))]), F16)
        places = ir.Constant(ir.VectorType(I32, 16), list(range(16)))
        left = splat(builder, builder.trunc(rest_, I32), ir.VectorType(I32, 16))
        total = builder.select(builder.icmp_signed("<", places, left), builder.fadd(total, last), total)
        for half in (8, 4, 2, 1):
            swapped = ir.Constant(ir.VectorType(I32, 16), [i ^ half for i in range(16)])
            total = builder.fadd(total, builder.shuffle_vector(total, ir.Constant(F16, ir.Undefined), swapped))
        return builder.extract_element(total, I32(0))

    return types.float32(x, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def add_rows64(typing_context: Any, x: Any, x0: Any, stride: Any, count: Any, total: Any) -> Any:  # noqa: ARG001
    """total[64] += x[x0 + stride * row + i] for count rows, one after the other."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        xs, x_at, stride_, count_, totals = arguments
        start = address_of(context, builder, signature.args[0], xs, x_at)
        place = builder.bitcast(address_of(context, builder, signature.args[4], totals, I64(0)), F64.as_pointer())
        before = builder.block
        first = builder.load(place)
        first.align = 4
        check, body, done = (builder.append_basic_block(f"rows.{name}") for name in ("check", "body", "done"))
        builder.branch(check)
        builder.position_at_end(check)
        row, sums = builder.phi(I64), builder.phi(F64)
        row.add_incoming(I64(0), before)
        sums.add_incoming(first, before)
        builder.cbranch(builder.icmp_signed("<", row, count_), body, done)
        builder.position_at_end(body)
        more = builder.fadd(sums, load(builder, builder.gep(start, [builder.mul(row, stride_)]), F64))
        row.add_incoming(builder.add(row, I64(1)), body)
        sums.add_incoming(more, body)
        builder.branch(check)
        builder.position_at_end(done)
        builder.store(sums, place).align = 4
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, i, i, i, total), generate


@intrinsic  # type: ignore[untyped-decorator]
def differing32(typing_context: Any, a: Any, a0: Any, b: Any, b0: Any, acc: Any, steps: Any) -> Any:  # noqa: ARG001
    """As `words.differing`, into int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tile_code(context, builder, signature, arguments, both=False, narrow=True)
        return context.get_dummy_value()

    i = types.int64
    return types.void(a, i, b, i, acc, i), generate


@intrinsic  # type: ignore[untyped-decorator]
def common32(typing_context: Any, a: Any, a0: Any, b: Any, b0: Any, acc: Any, steps: Any) -> Any:  # noqa: ARG001
    """As `words.common`, into int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tile_code(context, builder, signature, arguments, both=True, narrow=True)
        return context.get_dummy_value()

    i = types.int64
    return types.void(a, i, b, i, acc, i), generate

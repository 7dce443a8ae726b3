# mypy: disable-error-code="untyped-decorator"
"""What runs along a row in vectors of 16: the largest byte, the steps of Shiftmax and of I-LayerNorm.

A row is read and written to the end of its last vector. `keep` is 255 for a token that counts and 0 for one that is
masked or beyond the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vitq.benchmarks.runtimes.i_vit.ir import (
    HALF,
    I8,
    I16,
    I32,
    I64,
    LANES,
    V8,
    V32,
    at,
    every,
    high_product,
    largest_of,
    load,
    loop,
    smaller,
    splat,
    store,
    sum_of,
)  # fmt: skip

V16 = ir.VectorType(I16, LANES)
HALF8, HALF32 = ir.VectorType(I8, LANES // 2), ir.VectorType(I32, LANES // 2)


def _above(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.icmp_unsigned(">", left, right), left, right)


def _largest(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    codes, c0, count, keep, k0 = arguments
    x_at, keep_at = (at(context, builder, signature.args[i], a, o) for i, a, o in ((0, codes, c0), (3, keep, k0)))

    def step(index: Any, carried: Any) -> list[Any]:
        x = builder.and_(load(builder, x_at, index, V8), load(builder, keep_at, index, V8))
        return [_above(builder, x, carried[0])]

    (found,) = loop(builder, count, LANES, [every(V8, 0)], step, "largest")
    return largest_of(builder, found)


@intrinsic
def largest(_: Any, codes: Any, c0: Any, count: Any, keep: Any, k0: Any) -> Any:  # noqa: ARG001
    """The largest of `count` uint8 that are kept."""
    i = types.int64
    return types.uint8(codes, i, i, keep, i), _largest


def _largest_byte(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    codes, c0, count = arguments
    x_at, kind = at(context, builder, signature.args[0], codes, c0), ir.VectorType(I8, 64)

    def step(index: Any, carried: Any) -> list[Any]:
        return [_above(builder, load(builder, x_at, index, kind), carried[0])]

    return largest_of(builder, loop(builder, count, 64, [every(kind, 0)], step, "largest")[0])


@intrinsic
def largest_byte(_: Any, codes: Any, c0: Any, count: Any) -> Any:  # noqa: ARG001
    """The largest of uint8 in steps of 64: what lies up to 63 past `count` is looked at too."""
    return types.uint8(codes, types.int64, types.int64), _largest_byte


def _exponentials(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    codes, c0, count, top, one, magic, keep, k0, powers = arguments
    kinds = signature.args
    x_at, keep_at = (at(context, builder, kinds[i], a, o) for i, a, o in ((0, codes, c0), (6, keep, k0)))
    e_at = at(context, builder, kinds[8], powers, I64(0))
    high, unit, by = (splat(builder, builder.trunc(x, I32)) for x in (builder.zext(top, I64), one, magic))

    def step(index: Any, carried: Any) -> list[Any]:
        d = builder.sub(builder.zext(load(builder, x_at, index, V8), V32), high)
        power = builder.sub(builder.sub(builder.ashr(d, every(V32, 4)), d), builder.ashr(d, every(V32, 1)))
        quotient = builder.lshr(builder.mul(power, by), every(V32, 20))
        rest = builder.sub(power, builder.mul(quotient, unit))
        line = builder.sub(unit, builder.lshr(builder.add(rest, every(V32, 1)), every(V32, 1)))
        capped = smaller(builder, quotient, every(V32, 31))
        e = builder.lshr(builder.shl(line, every(V32, 15)), capped)
        kept = builder.icmp_signed("!=", load(builder, keep_at, index, V8), every(V8, 0))
        e = builder.select(kept, e, every(V32, 0))
        store(builder, e, e_at, builder.mul(index, I64(4)))
        return [builder.add(carried[0], e)]

    (found,) = loop(builder, count, LANES, [every(V32, 0)], step, "exponentials")
    return builder.zext(sum_of(builder, found), I64)


@intrinsic
def exponentials(
    _: Any, codes: Any, c0: Any, count: Any, top: Any, one: Any, magic: Any, keep: Any, k0: Any, powers: Any  # noqa: ARG001
) -> Any:  # fmt: skip
    """ShiftExp of code - top in 32 bits, into `powers`, and their sum.

    With d = code - top, p = -(d + (d>>1) - (d>>4)), q = p * magic >> 20, which must be p // one, and r = p - q * one:
    (one + (-r >> 1)) << 15 >> q, where -r >> 1 is -((r + 1) >> 1). I_0 < 2^16, and the sum must fit 32 bits.
    """
    i = types.int64
    return types.int64(codes, i, i, types.uint8, i, i, keep, i, powers), _exponentials


def _probabilities(bits: int) -> Callable[..., Any]:
    kind, size = (V8, 1) if bits == 8 else (V16, 2)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        powers, count, factor, out, o0 = arguments
        e_at = at(context, builder, signature.args[0], powers, I64(0))
        out_at = at(context, builder, signature.args[3], out, o0)
        low, high = (splat(builder, builder.trunc(x, I32)) for x in (factor, builder.lshr(factor, I64(32))))

        def step(index: Any, carried: Any) -> Any:
            e = load(builder, e_at, builder.mul(index, I64(4)), V32)
            share = builder.add(builder.mul(high, e), high_product(builder, low, e, signed=False))
            share = builder.lshr(share, every(V32, 31 - bits))
            share = smaller(builder, share, every(V32, 2 ** (bits - 1) - 1))
            store(builder, builder.trunc(share, kind), out_at, builder.mul(index, I64(size)))
            return carried

        loop(builder, count, LANES, [], step, "probabilities")
        return context.get_dummy_value()

    return code


@intrinsic
def probabilities8(_: Any, powers: Any, count: Any, factor: Any, out: Any, o0: Any) -> Any:  # noqa: ARG001
    """min(factor * e >> 55, 127) as uint8, for e < 2^31 with factor * e <= 2^62.

    factor = h 2^32 + l, so that factor * e >> 32 = h e + (l e >> 32) exactly, which is below 2^31.
    """
    i = types.int64
    return types.void(powers, i, i, out, i), _probabilities(8)


@intrinsic
def probabilities16(_: Any, powers: Any, count: Any, factor: Any, out: Any, o0: Any) -> Any:  # noqa: ARG001
    """min(factor * e >> 47, 32767) as int16; see `probabilities8`."""
    i = types.int64
    return types.void(powers, i, i, out, i), _probabilities(16)


def _interleaved(together: int) -> Callable[..., Any]:
    """Of four rows, four bytes in every word; of two rows, two int16."""
    wide = 32 // together
    low = every(V32, 2**wide - 1)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, r0, ld, count, out, o0 = arguments
        x_at, out_at = (at(context, builder, signature.args[i], a, o) for i, a, o in ((0, rows, r0), (4, out, o0)))

        def step(index: Any, carried: Any) -> Any:
            word = every(V32, 0)
            for i in range(together):
                x = load(builder, x_at, builder.add(index, builder.mul(I64(i), ld)), V8)
                signed = builder.sext(builder.xor(x, every(V8, -128)), V32)
                word = builder.or_(word, builder.shl(builder.and_(signed, low), every(V32, wide * i)))
            store(builder, word, out_at, builder.mul(index, I64(4)))
            return carried

        loop(builder, count, LANES, [], step, "interleave")
        return context.get_dummy_value()

    return code


@intrinsic
def interleave4(_: Any, rows: Any, r0: Any, ld: Any, count: Any, out: Any, o0: Any) -> Any:  # noqa: ARG001
    """Four rows of code + 128 to words of four int8 codes, column by column."""
    i = types.int64
    return types.void(rows, i, i, i, out, i), _interleaved(4)


@intrinsic
def interleave2(_: Any, rows: Any, r0: Any, ld: Any, count: Any, out: Any, o0: Any) -> Any:  # noqa: ARG001
    """Two rows of code + 128 to words of two int16 codes, column by column."""
    i = types.int64
    return types.void(rows, i, i, i, out, i), _interleaved(2)


def _sums(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    stream, s0, count = arguments
    x_at = at(context, builder, signature.args[0], stream, s0)

    def step(index: Any, carried: Any) -> list[Any]:
        return [builder.add(carried[0], load(builder, x_at, builder.mul(index, I64(4)), V32))]

    (found,) = loop(builder, count, LANES, [every(V32, 0)], step, "sums")
    low, high = (ir.Constant(HALF32, list(range(i, i + 8))) for i in (0, 8))
    wide = [builder.sext(builder.shuffle_vector(found, found, half), HALF) for half in (low, high)]
    return sum_of(builder, builder.add(*wide))


@intrinsic
def total(_: Any, stream: Any, s0: Any, count: Any) -> Any:  # noqa: ARG001
    """The sum of int32, a multiple of 16 of them, whose sixteenths fit int32."""
    return types.int64(stream, types.int64, types.int64), _sums


def _squares(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    stream, s0, count, mean = arguments
    x_at = at(context, builder, signature.args[0], stream, s0)
    middle, by = splat(builder, builder.trunc(mean, I32)), every(HALF, 32)

    def step(index: Any, carried: Any) -> list[Any]:
        d = builder.sub(load(builder, x_at, builder.mul(index, I64(4)), V32), middle)
        pairs = builder.bitcast(d, HALF)
        even, odd = builder.ashr(builder.shl(pairs, by), by), builder.ashr(pairs, by)
        return [builder.add(carried[0], builder.mul(even, even)), builder.add(carried[1], builder.mul(odd, odd))]

    even, odd = loop(builder, count, LANES, [every(HALF, 0)] * 2, step, "squares")
    return sum_of(builder, builder.add(even, odd))


@intrinsic
def squares(_: Any, stream: Any, s0: Any, count: Any, mean: Any) -> Any:  # noqa: ARG001
    """The sum of (x - mean)^2 in int64 of a multiple of 16 int32 that differ from the mean by less than 2^31."""
    return types.int64(stream, types.int64, types.int64, types.int64), _squares


def _affine(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    stream, s0, count, mean, factor, multiplier, bias, shift, out, o0 = arguments
    kinds = signature.args
    x_at = at(context, builder, kinds[0], stream, s0)
    m_at, b_at = (at(context, builder, kinds[i], a, I64(0)) for i, a in ((5, multiplier), (6, bias)))
    out_at = at(context, builder, kinds[8], out, o0)
    middle, by = splat(builder, builder.trunc(mean, I32), 8), splat(builder, factor, 8)
    down = splat(builder, shift, 8)

    def step(index: Any, carried: Any) -> Any:
        words = builder.mul(index, I64(4))
        d = builder.sext(builder.sub(load(builder, x_at, words, HALF32), middle), HALF)
        normal = builder.ashr(builder.mul(d, by), every(HALF, 36))
        scaled = builder.mul(normal, builder.sext(load(builder, m_at, words, HALF32), HALF))
        scaled = builder.add(scaled, load(builder, b_at, builder.mul(index, I64(8)), HALF))
        scaled = smaller(builder, builder.ashr(scaled, down), every(HALF, 127))
        scaled = builder.select(builder.icmp_signed(">", scaled, every(HALF, -128)), scaled, every(HALF, -128))
        store(builder, builder.xor(builder.trunc(scaled, HALF8), every(HALF8, -128)), out_at, index)
        return carried

    loop(builder, count, LANES // 2, [], step, "affine")
    return context.get_dummy_value()


@intrinsic
def affine(
    _: Any, stream: Any, s0: Any, count: Any, mean: Any, factor: Any, multiplier: Any, bias: Any, shift: Any, out: Any, o0: Any  # noqa: ARG001, E501
) -> Any:  # fmt: skip
    """clamp((((x - mean) * factor >> 36) * multiplier + bias) >> shift) as code + 128, in steps of 8."""
    i = types.int64
    return types.void(stream, i, i, i, i, multiplier, bias, i, out, i), _affine

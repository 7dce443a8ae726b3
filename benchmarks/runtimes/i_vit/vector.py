"""Tiles of an INT8 product by VNNI with what follows them in registers, and byte tables by VBMI.

Each has a form for any CPU beside it; which one is compiled is decided once, from the features of the CPU that numba
compiles for. A tile is 6 rows by 64 columns or the first 16 or 32 of them; all arrays are flat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vitq.benchmarks.runtimes.i_vit.ir import (
    BYTES,
    I32,
    I64,
    LANES,
    V8,
    V32,
    at,
    every,
    high_product,
    larger,
    load,
    loop,
    smaller,
    splat,
    store,
    to_codes,
)  # fmt: skip
from vitq.benchmarks.runtimes.numba_cache import kernel

ROWS = 6
"""Rows of a tile: with 4 vectors of columns they fill 24 of AVX-512's 32 registers."""
COLUMNS = 64
"""Columns of a tile and of a panel of packed weights."""


def features() -> dict[str, bool]:
    """What the CPU that numba compiles for can do: the host's, or what NUMBA_CPU_FEATURES says instead."""
    if numba.config.CPU_NAME or numba.config.CPU_FEATURES is not None:
        given = (numba.config.CPU_FEATURES or "").split(",")
        return {name[1:]: name[0] == "+" for name in given if name}
    return dict(llvm.get_host_cpu_features())


VNNI = bool(features().get("avx512vnni"))
"""Whether the CPU multiplies INT8 in 512-bit vectors (AVX-512 VNNI)."""
VBMI = bool(features().get("avx512vbmi"))
"""Whether the CPU looks bytes up in registers (AVX-512 VBMI)."""
INSTRUCTIONS = " ".join(["AVX-512 VNNI" if VNNI else "plain vectors", "VBMI" if VBMI else "plain tables"])
"""What the kernels are compiled with."""


class Form(NamedTuple):
    """A tile's vectors of 16 columns, whether operands are int16, and whether by VNNI or in vectors of any CPU."""

    vectors: int
    words: bool = False
    native: bool = VNNI


Sums = list[list[Any]]
"""A tile's accumulators: vectors of 16 columns, row by row."""


def _dot(builder: Any, form: Form, total: Any, left: Any, right: Any) -> Any:
    """total + the dot product, in each 32 bits, of four uint8 and int8, or of two int16 (`form.words`)."""
    if form.native:
        name = f"llvm.x86.avx512.{'vpdpwssd' if form.words else 'vpdpbusd'}.512"
        multiply = builder.module.declare_intrinsic(name, (), ir.FunctionType(V32, [V32] * 3))
        return builder.call(multiply, [total, left, right])
    width = 16 if form.words else 8
    down = every(V32, 32 - width)
    for low in range(0, 32, width):
        up = every(V32, 32 - width - low)
        x = builder.shl(left, up)
        x = builder.ashr(x, down) if form.words else builder.lshr(x, down)
        total = builder.add(total, builder.mul(x, builder.ashr(builder.shl(right, up), down)))
    return total


def _products(context: Any, builder: Any, kinds: Any, operands: Any, steps: Any, form: Form) -> Sums:
    """start + a @ b of 6 rows and a form's columns; `operands` are a, a0, lda, b, b0, start, s0."""
    a, a0, lda, b, b0, start, s0 = operands
    a_at = at(context, builder, kinds[0], a, a0)
    b_at = at(context, builder, kinds[3], b, b0)
    start_at = at(context, builder, kinds[5], start, s0)
    vectors = form.vectors
    first = [load(builder, start_at, I64(64 * v), V32) for v in range(vectors)]
    rows = [builder.mul(I64(r), lda) for r in range(ROWS)]

    def step(index: Any, sums: Any) -> list[Any]:
        b_step, a_step = builder.mul(index, I64(4 * COLUMNS)), builder.mul(index, I64(4))
        right = [load(builder, b_at, builder.add(b_step, I64(64 * v)), V32) for v in range(vectors)]
        found = []
        for r in range(ROWS):
            left = splat(builder, load(builder, a_at, builder.add(rows[r], a_step), I32))
            found += [_dot(builder, form, sums[r * vectors + v], left, right[v]) for v in range(vectors)]
        return found

    found = loop(builder, steps, 1, first * ROWS, step, "product")
    return [found[r * vectors : (r + 1) * vectors] for r in range(ROWS)]


def _scaled(builder: Any, value: Any, numbers: Any, v: int) -> Any:
    """A dyadic number of shift 33 and more: ((b*I >> 32) + half) >> (c - 32)."""
    multiplier, half, shift = (load(builder, number, I64(64 * v), V32) for number in numbers)
    return builder.ashr(builder.add(high_product(builder, value, multiplier), half), shift)


def _keep(form: Form) -> Callable[..., Any]:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *operands, c, c0, ldc, steps = arguments
        sums = _products(context, builder, signature.args, operands, steps, form)
        c_at, width = at(context, builder, signature.args[7], c, c0), builder.mul(ldc, I64(4))
        for r, row in enumerate(sums):
            for v, value in enumerate(row):
                store(builder, value, c_at, builder.add(builder.mul(I64(r), width), I64(64 * v)))
        return context.get_dummy_value()

    return code


def _codes(form: Form, biased: bool) -> Callable[..., Any]:
    """Requantized to code + 128; `biased` adds int8 codes of a bias, which has rows of 64, before the clamp."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        operands, (m, h, s, p0, out, o0, ldo, bias, bias0, steps) = arguments[:7], arguments[7:]
        kinds = signature.args
        sums = _products(context, builder, kinds, operands, steps, form)
        numbers = [at(context, builder, kinds[7 + i], x, p0) for i, x in enumerate((m, h, s))]
        out_at, bias_at = at(context, builder, kinds[11], out, o0), at(context, builder, kinds[14], bias, bias0)
        for r, row in enumerate(sums):
            for v, value in enumerate(row):
                scaled = _scaled(builder, value, numbers, v)
                if biased:
                    more = builder.sext(load(builder, bias_at, I64(COLUMNS * r + LANES * v), V8), V32)
                    scaled = builder.add(scaled, more)
                offset = builder.add(builder.mul(I64(r), ldo), I64(LANES * v))
                store(builder, to_codes(builder, scaled), out_at, offset)
        return context.get_dummy_value()

    return code


def _join(form: Form) -> Callable[..., Any]:
    """Rescaled and added to the rescaled stream, in place; both are first shifted left so that shifts reach 33."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        operands, (m, h, s, up, p0, rm, rh, rs, ru, top, stream, s0, lds, steps) = arguments[:7], arguments[7:]
        kinds = signature.args
        sums = _products(context, builder, kinds, operands, steps, form)
        numbers = [at(context, builder, kinds[7 + i], x, p0) for i, x in enumerate((m, h, s))]
        up_at, stream_at = at(context, builder, kinds[10], up, p0), at(context, builder, kinds[17], stream, s0)
        right = [splat(builder, builder.trunc(x, I32)) for x in (rm, rh, rs, ru)]
        high = splat(builder, builder.trunc(top, I32))
        low = builder.not_(high)
        width = builder.mul(lds, I64(4))
        for r, row in enumerate(sums):
            for v, value in enumerate(row):
                offset = builder.add(builder.mul(I64(r), width), I64(64 * v))
                lifted = builder.shl(value, load(builder, up_at, I64(64 * v), V32))
                branch = _scaled(builder, lifted, numbers, v)
                old = builder.shl(load(builder, stream_at, offset, V32), right[3])
                old = builder.ashr(builder.add(high_product(builder, old, right[0]), right[1]), right[2])
                total = builder.add(branch, old)
                store(builder, larger(builder, smaller(builder, total, high), low), stream_at, offset)
        return context.get_dummy_value()

    return code


def _tile_of(code: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        _: Any, a: Any, a0: Any, lda: Any, b: Any, b0: Any, start: Any, s0: Any, c: Any, c0: Any, ldc: Any, n: Any  # noqa: ARG001
    ) -> Any:  # fmt: skip
        i = types.int64
        return types.void(a, i, i, b, i, start, i, c, i, i, i), code

    return tile


def _codes_of(code: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        _: Any, a: Any, a0: Any, lda: Any, b: Any, b0: Any, start: Any, s0: Any, m: Any, h: Any, s: Any, p0: Any, out: Any, o0: Any, ldo: Any, bias: Any, bias0: Any, n: Any  # noqa: ARG001, E501
    ) -> Any:  # fmt: skip
        i = types.int64
        return types.void(a, i, i, b, i, start, i, m, h, s, i, out, i, i, bias, i, i), code

    return tile


def _join_of(code: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        _: Any, a: Any, a0: Any, lda: Any, b: Any, b0: Any, start: Any, s0: Any, m: Any, h: Any, s: Any, up: Any, p0: Any, rm: Any, rh: Any, rs: Any, ru: Any, top: Any, stream: Any, t0: Any, lds: Any, n: Any  # noqa: ARG001, E501
    ) -> Any:  # fmt: skip
        i = types.int64
        return types.void(a, i, i, b, i, start, i, m, h, s, up, i, i, i, i, i, i, stream, i, i, i), code

    return tile


tile4, words_tile4, any_tile4, any_words_tile4 = (
    _tile_of(_keep(form))
    for form in (Form(4), Form(4, words=True), Form(4, native=False), Form(4, words=True, native=False))
)
codes1, codes2, codes4 = (_codes_of(_codes(Form(vectors), biased=False)) for vectors in (1, 2, 4))
biased2, biased4 = (_codes_of(_codes(Form(vectors), biased=True)) for vectors in (2, 4))
words2, words4 = (_codes_of(_codes(Form(vectors, words=True), biased=False)) for vectors in (2, 4))
join2, join4 = (_join_of(_join(Form(vectors))) for vectors in (2, 4))


def _lookup_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    table, t0, codes, c0, out, o0 = arguments
    kinds = signature.args
    t_at = at(context, builder, kinds[0], table, t0)
    c_at = at(context, builder, kinds[2], codes, c0)
    o_at = at(context, builder, kinds[4], out, o0)
    kind = ir.FunctionType(BYTES, [BYTES, BYTES, BYTES])
    pick = builder.module.declare_intrinsic("llvm.x86.avx512.vpermi2var.qi.512", (), kind)
    quarters = [load(builder, t_at, I64(64 * i), BYTES) for i in range(4)]
    index = load(builder, c_at, I64(0), BYTES)
    low = builder.call(pick, [quarters[0], index, quarters[1]])
    high = builder.call(pick, [quarters[2], index, quarters[3]])
    upper = builder.icmp_signed("<", index, ir.Constant(BYTES, [0] * 64))
    store(builder, builder.select(upper, high, low), o_at, I64(0))
    return context.get_dummy_value()


@intrinsic  # type: ignore[untyped-decorator]
def _vbmi_lookup(_: Any, table: Any, t0: Any, codes: Any, c0: Any, out: Any, o0: Any) -> Any:  # noqa: ARG001
    i = types.int64
    return types.void(table, i, codes, i, out, i), _lookup_code


if VBMI:

    @kernel()
    def lookup(table, t0, codes, c0, out, o0, count):  # type: ignore[no-untyped-def]
        """out[i] = table[codes[i]] of uint8 in steps of 64: what lies up to 63 past `count` is written too."""
        for i in range(0, count, 64):
            _vbmi_lookup(table, t0, codes, c0 + i, out, o0 + i)

else:

    @kernel()
    def lookup(table, t0, codes, c0, out, o0, count):  # type: ignore[no-untyped-def]
        """out[i] = table[codes[i]] of uint8."""
        for i in range(count):
            out[o0 + i] = table[t0 + codes[c0 + i]]

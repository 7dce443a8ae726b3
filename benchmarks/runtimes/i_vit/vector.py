"""What numba's own loops cannot say: a tile of an INT8 product by VNNI, a 256-entry byte table, a 32-bit shift.

Each has a form for any CPU beside it, in plain loops; which one is compiled is decided once, from the host's features.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

ROWS = 6
"""Rows of a tile: with 4 vectors of columns they fill 24 of AVX-512's 32 registers."""
COLUMNS = 64
"""Columns of a tile and of a panel of packed weights."""
FEATURES = llvm.get_host_cpu_features()
VNNI = bool(FEATURES.get("avx512vnni"))
"""Whether the CPU multiplies INT8 in 512-bit vectors (AVX-512 VNNI)."""
VBMI = bool(FEATURES.get("avx512vbmi"))
"""Whether the CPU looks bytes up in registers (AVX-512 VBMI)."""

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
V64 = ir.VectorType(I8, 64)
V16 = ir.VectorType(I32, 16)


def _at(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [offset])


def _load(builder: Any, address: Any, offset: Any, kind: Any) -> Any:
    """An unaligned load at an address in bytes plus an offset."""
    pointer = builder.gep(builder.bitcast(address, I8.as_pointer()), [offset])
    loaded = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    loaded.align = 1
    return loaded


def _store(builder: Any, value: Any, address: Any, offset: Any) -> None:
    pointer = builder.gep(builder.bitcast(address, I8.as_pointer()), [offset])
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = 1


@intrinsic  # type: ignore[untyped-decorator]
def shift32(typing_context: Any, value: Any, by: Any) -> Any:  # noqa: ARG001
    """value >> by of int32, 0 <= by < 32, which numba itself would widen to 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.ashr(arguments[0], arguments[1])

    return types.int32(types.int32, types.int32), generate


def _tile_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    a, a0, lda, b, b0, start, s0, c, c0, ldc, steps = arguments
    kinds = signature.args
    a_at = _at(context, builder, kinds[0], a, a0)
    b_at = _at(context, builder, kinds[3], b, b0)
    start_at = _at(context, builder, kinds[5], start, s0)
    c_at = _at(context, builder, kinds[7], c, c0)
    module = builder.module
    dot = module.declare_intrinsic("llvm.x86.avx512.vpdpbusd.512", (), ir.FunctionType(V16, [V16, V16, V16]))
    vectors, zero, one = COLUMNS // 16, I64(0), I64(1)
    first = [_load(builder, start_at, I64(64 * v), V16) for v in range(vectors)]
    rows = [builder.mul(I64(r), lda) for r in range(ROWS)]
    before = builder.block
    loop, done = builder.append_basic_block("product"), builder.append_basic_block("product.end")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(I64)
    step.add_incoming(zero, before)
    sums = [[builder.phi(V16) for _ in range(vectors)] for _ in range(ROWS)]
    for row in sums:
        for v, phi in enumerate(row):
            phi.add_incoming(first[v], before)
    b_step = builder.mul(step, I64(4 * COLUMNS))
    right = [_load(builder, b_at, builder.add(b_step, I64(64 * v)), V16) for v in range(vectors)]
    a_step = builder.mul(step, I64(4))
    mask = ir.Constant(ir.VectorType(I32, 16), [0] * 16)
    results = []
    for r in range(ROWS):
        word = _load(builder, a_at, builder.add(rows[r], a_step), I32)
        empty = ir.Constant(V16, ir.Undefined)
        left = builder.shuffle_vector(builder.insert_element(empty, word, I32(0)), empty, mask)
        results.append([builder.call(dot, [sums[r][v], left, right[v]]) for v in range(vectors)])
    following = builder.add(step, one)
    more = builder.icmp_signed("<", following, steps)
    end = builder.block
    step.add_incoming(following, end)
    for row, new in zip(sums, results, strict=True):
        for phi, value in zip(row, new, strict=True):
            phi.add_incoming(value, end)
    builder.cbranch(more, loop, done)
    builder.position_at_end(done)
    width = builder.mul(ldc, I64(4))
    for r in range(ROWS):
        for v in range(vectors):
            _store(builder, results[r][v], c_at, builder.add(builder.mul(I64(r), width), I64(64 * v)))
    return context.get_dummy_value()


@intrinsic  # type: ignore[untyped-decorator]
def _vnni_tile(
    typing_context: Any, a: Any, a0: Any, lda: Any, b: Any, b0: Any, start: Any, s0: Any, c: Any, c0: Any, ldc: Any, steps: Any  # noqa: ARG001, E501
) -> Any:  # fmt: skip
    i = types.int64
    return types.void(a, i, i, b, i, start, i, c, i, i, i), _tile_code


@numba.njit(cache=True)
def plain_tile(a, a0, lda, b, b0, start, s0, c, c0, ldc, steps):  # type: ignore[no-untyped-def]
    """As `tile`, in plain loops."""
    """The same as `tile` in plain loops, for a CPU without VNNI."""
    for r in range(ROWS):
        out = c[c0 + r * ldc : c0 + r * ldc + COLUMNS]
        left = a[a0 + r * lda : a0 + r * lda + 4 * steps]
        out[:] = start[s0 : s0 + COLUMNS]
        for s in range(steps):
            right = b[b0 + 4 * COLUMNS * s : b0 + 4 * COLUMNS * (s + 1)]
            for j in range(COLUMNS):
                total = 0
                for i in range(4):
                    total += left[4 * s + i] * numba.int32(right[4 * j + i])
                out[j] = numba.int32(out[j] + total)


if VNNI:

    @numba.njit(cache=True)
    def tile(a, a0, lda, b, b0, start, s0, c, c0, ldc, steps):  # type: ignore[no-untyped-def]
        """c[6, 64] = start[64] + a[6, 4*steps] @ b: uint8 rows, int8 packed [steps, 64, 4], int32; wraps as int32 does.

        All arrays are flat; a0, b0, s0, c0 are where the operands begin, lda and ldc the lengths of rows.
        """
        _vnni_tile(a, a0, lda, b, b0, start, s0, c, c0, ldc, steps)

else:
    tile = plain_tile


def _lookup_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    table, t0, codes, c0, out, o0 = arguments
    kinds = signature.args
    t_at = _at(context, builder, kinds[0], table, t0)
    c_at = _at(context, builder, kinds[2], codes, c0)
    o_at = _at(context, builder, kinds[4], out, o0)
    kind = ir.FunctionType(V64, [V64, V64, V64])
    pick = builder.module.declare_intrinsic("llvm.x86.avx512.vpermi2var.qi.512", (), kind)
    quarters = [_load(builder, t_at, I64(64 * i), V64) for i in range(4)]
    index = _load(builder, c_at, I64(0), V64)
    low = builder.call(pick, [quarters[0], index, quarters[1]])
    high = builder.call(pick, [quarters[2], index, quarters[3]])
    upper = builder.icmp_signed("<", index, ir.Constant(V64, [0] * 64))
    _store(builder, builder.select(upper, high, low), o_at, I64(0))
    return context.get_dummy_value()


@intrinsic  # type: ignore[untyped-decorator]
def _vbmi_lookup(typing_context: Any, table: Any, t0: Any, codes: Any, c0: Any, out: Any, o0: Any) -> Any:  # noqa: ARG001
    i = types.int64
    return types.void(table, i, codes, i, out, i), _lookup_code


if VBMI:

    @numba.njit(cache=True)
    def lookup(table, t0, codes, c0, out, o0, count):  # type: ignore[no-untyped-def]
        """out[i] = table[codes[i]] of uint8 in steps of 64: what lies up to 63 past `count` is written too."""
        for i in range(0, count, 64):
            _vbmi_lookup(table, t0, codes, c0 + i, out, o0 + i)

else:

    @numba.njit(cache=True)
    def lookup(table, t0, codes, c0, out, o0, count):  # type: ignore[no-untyped-def]
        """out[i] = table[codes[i]] of uint8."""
        for i in range(count):
            out[o0 + i] = table[t0 + codes[c0 + i]]

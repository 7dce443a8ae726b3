"""A tile of an INT8 product, uint8 x int8 to int32, whose right operand is stored in bytes or two codes a byte.

In registers by VNNI where the CPU has it in 512 bits, in plain loops elsewhere and where a caller asks for them; the
integers are the same. Panels are packed for both alike: 64 columns, eight rows of k at a time, four of k beside each
other. In a byte panel the second four of eight follow the first; in a nibble panel they are the high halves of the same
bytes, so that one load gives two steps of the product, by a mask, and by a shift and a mask.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vitq.benchmarks.runtimes.numba_cache import kernel

ROWS = 6
"""Rows of a tile: with 4 vectors of columns they fill 24 of AVX-512's 32 registers."""
COLUMNS = 64
"""Columns of a tile and of a panel."""
GROUP = 8
"""Rows of k that a panel is padded to."""
VNNI = bool(llvm.get_host_cpu_features().get("avx512vnni"))
"""Whether the CPU multiplies INT8 in 512-bit vectors (AVX-512 VNNI)."""

I8, I16, I32, I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
V16 = ir.VectorType(I32, 16)
VECTORS = COLUMNS // 16


def address_of(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    """The address of a flat array's element, in bytes."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), I8.as_pointer())


def load(builder: Any, address: Any, offset: Any, kind: Any) -> Any:
    """An unaligned load at an address in bytes plus an offset."""
    loaded = builder.load(builder.bitcast(builder.gep(address, [offset]), kind.as_pointer()))
    loaded.align = 1
    return loaded


def store(builder: Any, value: Any, address: Any, offset: Any) -> None:
    """An unaligned store at an address in bytes plus an offset."""
    builder.store(value, builder.bitcast(builder.gep(address, [offset]), value.type.as_pointer())).align = 1


def _right(builder: Any, b: Any, group: Any, half: int, v: int, nibbles: bool) -> Any:
    """A vector of 16 columns x 4 of k: the first or second four of a group."""
    if not nibbles:
        return load(
            builder, b, builder.add(builder.mul(group, I64(8 * COLUMNS)), I64(4 * COLUMNS * half + 64 * v)), V16
        )
    raw = load(builder, b, builder.add(builder.mul(group, I64(4 * COLUMNS)), I64(64 * v)), V16)
    if half:
        raw = builder.lshr(raw, ir.Constant(V16, [4] * 16))
    return builder.and_(raw, ir.Constant(V16, [0x0F0F0F0F] * 16))


def _broadcast(builder: Any, a: Any, offset: Any) -> Any:
    """Four codes of a row in each of 16 lanes."""
    empty = ir.Constant(V16, ir.Undefined)
    word = builder.insert_element(empty, load(builder, a, offset, I32), I32(0))
    return builder.shuffle_vector(word, empty, ir.Constant(V16, [0] * 16))


def _code(nibbles: bool) -> Any:
    """The generator of a tile's loop over groups of k."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, a0, lda, b, b0, start, s0, c, groups = arguments
        kinds = signature.args
        a_at, b_at = address_of(context, builder, kinds[0], a, a0), address_of(context, builder, kinds[3], b, b0)
        start_at, c_at = (
            address_of(context, builder, kinds[5], start, s0),
            address_of(context, builder, kinds[7], c, I64(0)),
        )
        dot = builder.module.declare_intrinsic(
            "llvm.x86.avx512.vpdpbusd.512", (), ir.FunctionType(V16, [V16, V16, V16])
        )
        first = [load(builder, start_at, I64(64 * v), V16) for v in range(VECTORS)]
        rows = [builder.mul(I64(r), lda) for r in range(ROWS)]
        before = builder.block
        loop, done = builder.append_basic_block("product"), builder.append_basic_block("product.end")
        builder.branch(loop)
        builder.position_at_end(loop)
        group = builder.phi(I64)
        group.add_incoming(I64(0), before)
        phis = [[builder.phi(V16) for _ in range(VECTORS)] for _ in range(ROWS)]
        sums = [list(row) for row in phis]
        for half in range(2):
            right = [_right(builder, b_at, group, half, v, nibbles) for v in range(VECTORS)]
            k = builder.add(builder.mul(group, I64(GROUP)), I64(4 * half))
            for r in range(ROWS):
                left = _broadcast(builder, a_at, builder.add(rows[r], k))
                sums[r] = [builder.call(dot, [sums[r][v], left, right[v]]) for v in range(VECTORS)]
        following = builder.add(group, I64(1))
        group.add_incoming(following, loop)
        for r in range(ROWS):
            for v in range(VECTORS):
                phis[r][v].add_incoming(first[v], before)
                phis[r][v].add_incoming(sums[r][v], loop)
        builder.cbranch(builder.icmp_signed("<", following, groups), loop, done)
        builder.position_at_end(done)
        for r in range(ROWS):
            for v in range(VECTORS):
                store(builder, sums[r][v], c_at, I64(4 * COLUMNS * r + 64 * v))
        return context.get_dummy_value()

    return generate


def _signature(a: Any, b: Any, start: Any, c: Any) -> Any:
    i = types.int64
    return types.void(a, i, i, b, i, start, i, c, i)


@intrinsic  # type: ignore[untyped-decorator]
def _vnni_bytes(typing_context: Any, a: Any, a0: Any, lda: Any, b: Any, b0: Any, start: Any, s0: Any, c: Any, groups: Any) -> Any:  # noqa: ARG001, E501  # fmt: skip
    return _signature(a, b, start, c), _code(nibbles=False)


@intrinsic  # type: ignore[untyped-decorator]
def _vnni_nibbles(typing_context: Any, a: Any, a0: Any, lda: Any, b: Any, b0: Any, start: Any, s0: Any, c: Any, groups: Any) -> Any:  # noqa: ARG001, E501  # fmt: skip
    return _signature(a, b, start, c), _code(nibbles=True)


@kernel(counts=True)
def _plain_step(left, k, right, out, high, nibbles):  # type: ignore[no-untyped-def]
    """out[64] += left[k : k + 4] @ the first or second four of a group."""
    for i in range(4):
        x = np.int32(left[k + i])
        for j in range(COLUMNS):
            y = np.int32(right[4 * j + i])
            code = ((y >> 4) & 15 if high else y & 15) if nibbles else y
            out[j] = np.int32(out[j] + x * code)


@kernel(counts=True)
def plain_tile(a, a0, lda, b, b0, start, s0, c, groups, nibbles):  # type: ignore[no-untyped-def]
    """As `tile`, in plain loops."""
    size = 4 * COLUMNS if nibbles else 8 * COLUMNS
    for r in range(ROWS):
        out = c[r * COLUMNS : (r + 1) * COLUMNS]
        out[:] = start[s0 : s0 + COLUMNS]
        left = a[a0 + r * lda : a0 + r * lda + GROUP * groups]
        for g in range(groups):
            right = b[b0 + size * g : b0 + size * (g + 1)]
            _plain_step(left, GROUP * g, right, out, False, nibbles)
            _plain_step(left, GROUP * g + 4, right if nibbles else right[4 * COLUMNS :], out, True, nibbles)


if VNNI:

    @kernel(counts=True)
    def tile(a, a0, lda, b, b0, start, s0, c, groups, nibbles, plain):  # type: ignore[no-untyped-def]
        """c[6, 64] = start[64] + a[6, 8*groups] @ b, modulo 2^32; all arrays flat, each from its offset.

        a is uint8 with rows `lda` long; b a panel of int8 codes, or of unsigned 4-bit codes where `nibbles`.
        """
        if plain:
            plain_tile(a, a0, lda, b, b0, start, s0, c, groups, nibbles)
        elif nibbles:
            _vnni_nibbles(a, a0, lda, b, b0, start, s0, c, groups)
        else:
            _vnni_bytes(a, a0, lda, b, b0, start, s0, c, groups)

else:

    @kernel(counts=True)
    def tile(a, a0, lda, b, b0, start, s0, c, groups, nibbles, plain):  # type: ignore[no-untyped-def]  # noqa: ARG001
        """As above, in plain loops alone."""
        plain_tile(a, a0, lda, b, b0, start, s0, c, groups, nibbles)

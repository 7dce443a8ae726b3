"""A tile of a product in float32, for attention whose grid spans more than 8-bit integers hold."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vitq.benchmarks.runtimes.int4.tile import COLUMNS, I32, I64, ROWS, VECTORS, address_of, load, store
from vitq.benchmarks.runtimes.numba_cache import kernel

F32 = ir.FloatType()
W16 = ir.VectorType(F32, 16)


def _code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    a, lda, b, b0, c, steps = arguments
    kinds = signature.args
    a_at, b_at = address_of(context, builder, kinds[0], a, I64(0)), address_of(context, builder, kinds[2], b, b0)
    c_at = address_of(context, builder, kinds[4], c, I64(0))
    rows = [builder.mul(I64(4 * r), lda) for r in range(ROWS)]
    before = builder.block
    loop, done = builder.append_basic_block("product"), builder.append_basic_block("product.end")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(I64)
    step.add_incoming(I64(0), before)
    sums = [[builder.phi(W16) for _ in range(VECTORS)] for _ in range(ROWS)]
    right = [load(builder, b_at, builder.add(builder.mul(step, I64(4 * COLUMNS)), I64(64 * v)), W16) for v in range(VECTORS)]  # noqa: E501  # fmt: skip
    results = []
    for r in range(ROWS):
        empty = ir.Constant(W16, ir.Undefined)
        word = builder.insert_element(
            empty, load(builder, a_at, builder.add(rows[r], builder.mul(step, I64(4))), F32), I32(0)
        )
        left = builder.shuffle_vector(word, empty, ir.Constant(ir.VectorType(I32, 16), [0] * 16))
        products = [builder.fmul(left, right[v], flags=("contract",)) for v in range(VECTORS)]
        results.append([builder.fadd(sums[r][v], products[v], flags=("contract",)) for v in range(VECTORS)])
    following = builder.add(step, I64(1))
    step.add_incoming(following, loop)
    for r in range(ROWS):
        for v in range(VECTORS):
            sums[r][v].add_incoming(ir.Constant(W16, [0.0] * 16), before)
            sums[r][v].add_incoming(results[r][v], loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)
    builder.position_at_end(done)
    for r in range(ROWS):
        for v in range(VECTORS):
            store(builder, results[r][v], c_at, I64(4 * COLUMNS * r + 64 * v))
    return context.get_dummy_value()


@intrinsic  # type: ignore[untyped-decorator]
def _tile(typing_context: Any, a: Any, lda: Any, b: Any, b0: Any, c: Any, steps: Any) -> Any:  # noqa: ARG001
    i = types.int64
    return types.void(a, i, b, i, c, i), _code


@kernel(counts=True)
def float_tile(a, lda, b, b0, c, steps):  # type: ignore[no-untyped-def]
    """c[6, 64] = a[6, steps] @ b[steps, 64] of float32; b from `b0` on, rows of a `lda` long."""
    _tile(a, lda, b, b0, c, steps)

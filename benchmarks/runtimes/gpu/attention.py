# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""A head of I-ViT's attention in one Triton kernel: Q.K^T, its requantization, Shiftmax, values, requantization."""

from __future__ import annotations

import triton
import triton.language as tl

from vitq.benchmarks.runtimes.gpu.products import dyadic, held


@triton.jit
def powers(down, one, magic):
    """ShiftExp of -255 <= I <= 0 with N = 15, where I_0 = `one` < 2^16: int32, divided by `one` by a product."""
    negative = (down >> 4) - down - (down >> 1)
    quotient = (negative * magic) >> 20
    remainder = negative - quotient * one
    line = ((-remainder) >> 1) + one
    return (line << 15) >> tl.minimum(quotient, 31)


@triton.jit
def shares_of(exponential, factor):
    """min((factor * e) >> 55, 127) of 0 <= e < 2^31 where factor * e <= 2^62: the upper halves of two products."""
    low, high = factor.to(tl.uint32), (factor >> 32).to(tl.uint32)
    e = exponential.to(tl.uint32)
    return tl.minimum((tl.umulhi(e, low[:, None]) + e * high[:, None]) >> 23, 127).to(tl.int8)


@triton.jit(do_not_specialize=["tokens"])
def attention(
    qkv, tokens, qk_multiplier, qk_shift, qk_high: tl.constexpr, one, magic, table, narrow: tl.constexpr,
    short: tl.constexpr, av_multiplier, av_shift, av_high: tl.constexpr, nearest: tl.constexpr, out,
    heads: tl.constexpr, d: tl.constexpr, wide: tl.constexpr, queries: tl.constexpr, keys: tl.constexpr,
):  # fmt: skip
    """int8 [B*N, 3*C] of queries, keys and values to int8 [B*N, C]; a program has `queries` queries and all keys.

    `narrow`: exponentials are below 2^31; `short`: so is their sum. `wide` and `keys` are d and N, padded. What is
    padded counts for nothing: its exponentials are 0.
    """
    image, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    row, key, channel = tl.program_id(1) * queries + tl.arange(0, queries), tl.arange(0, keys), tl.arange(0, wide)
    ld: tl.constexpr = 3 * heads * d
    base = qkv + image.to(tl.int64) * tokens * ld + head * d
    real_row, real_key, real_channel = row < tokens, key < tokens, channel < d
    over_rows = real_row[:, None] & real_channel[None, :]
    over_keys = real_key[:, None] & real_channel[None, :]
    q = tl.load(base + row[:, None] * ld + channel[None, :], over_rows, 0)
    at = base + key[:, None] * ld + channel[None, :]
    k = tl.load(at + heads * d, over_keys, 0)
    logits = tl.dot(q, tl.trans(k), out_dtype=tl.int32)
    codes = held(dyadic(logits, tl.load(qk_multiplier), tl.load(qk_shift), nearest, qk_high), 8).to(tl.int32)
    codes = tl.where(real_key[None, :], codes, -128)
    down = codes - tl.max(codes, 1)[:, None]
    if narrow:  # noqa: SIM108
        exponential = powers(down, tl.load(one), tl.load(magic))
    else:
        exponential = tl.load(table - down)
    exponential = tl.where(real_key[None, :], exponential, 0)
    if short:  # noqa: SIM108
        total = tl.sum(exponential, 1).to(tl.int64)
    else:
        total = tl.sum(exponential.to(tl.int64), 1)
    total = tl.maximum(total, 1)
    factor = ((total * 0 + 1) << 62) // total
    if narrow:
        shares = shares_of(exponential, factor)
    else:
        shares = tl.minimum((factor[:, None] * exponential) >> 55, 127).to(tl.int8)
    v = tl.load(at + 2 * heads * d, over_keys, 0)
    mixed = tl.dot(shares, v, out_dtype=tl.int32)
    mixed = held(dyadic(mixed, tl.load(av_multiplier), tl.load(av_shift), nearest, av_high), 8).to(tl.int8)
    to = out + (image.to(tl.int64) * tokens + row[:, None]) * (heads * d) + head * d + channel[None, :]
    tl.store(to, mixed, over_rows)

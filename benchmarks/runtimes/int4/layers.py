"""Quantized layers and products on INT8 kernels, in the place of the fake-quantized ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.int4 import grids, kernels
from vitq.benchmarks.runtimes.int4.packing import Array, Panels, padded, panels_of
from vitq.benchmarks.runtimes.int4.regions import Product
from vitq.benchmarks.runtimes.int4.tile import COLUMNS, GROUP, ROWS
from vitq.errors import UnsupportedError
from vitq.methods.repq_vit.log_quantizers import LogQuantizer
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul
from vitq.methods.toolkit.quantizers import UniformQuantizer

CHUNK = 96
"""Rows at most that a thread quantizes before it multiplies them: they stay in its L2 cache."""


class Work:
    """Buffers of all layers, which run one after the other: one row a thread, grown when a layer needs more."""

    def __init__(self, threads: int, plain: bool) -> None:
        self.threads, self.plain = threads, plain
        self._held: dict[str, Array] = {}

    def take(self, name: str, count: int, kind: Any) -> Array:
        """[threads, at least `count`] of a type; what an earlier layer left stands in it."""
        held = self._held.get(name)
        if held is None or held.shape[1] < count:
            held = self._held[name] = np.zeros((self.threads, padded(count, 64)), kind)
        return held

    def whole(self, name: str, count: int) -> Array:
        """float32 [count] that all threads share."""
        held = self._held.get(name)
        if held is None or len(held) < count:
            held = self._held[name] = np.zeros(count, np.float32)
        return held[:count]


def flat(x: Tensor) -> Array:
    """The numbers of a tensor in the order of its dimensions, as float32."""
    numbers: Array = x.detach().float().contiguous().view(-1).numpy()
    return numbers


class Int8Linear(nn.Module):
    """QLinear, or a convolution whose patches are given as rows."""

    def __init__(self, layer: QLinear | QConv2d, work: Work) -> None:
        super().__init__()
        self.work, quantizer, entering = work, layer.weight_quantizer, layer.input_quantizer
        assert isinstance(quantizer, UniformQuantizer)
        assert isinstance(entering, UniformQuantizer)
        self.grid, low = grids.grid_of(entering), quantizer.limits[0]
        codes = layer.weight_codes().flatten(1).numpy().astype(np.int64) - low
        zero = np.broadcast_to(flat(quantizer.zero_point), len(codes)).astype(np.int64) - low
        _check_range(self.grid, codes, zero, codes.shape[1])
        nibbles = quantizer.bits <= 4
        if not nibbles:
            codes, zero = codes - 128, zero - 128
        self.panels: Panels = panels_of(codes, nibbles)
        left = int(self.grid[3])
        self.start = _int32(self._wide(left * (codes.shape[1] * zero - codes.sum(1))))
        self.zero = _int32(self._wide(zero))
        self.factor = self._wide(flat(quantizer.scale) * self.grid[0])
        bias = np.zeros(len(codes), np.float32) if layer.bias is None else flat(layer.bias).copy()
        self.bias = self._wide(bias)
        self.product = Product(
            self.panels.codes, self.start, self.zero, self.factor, self.bias, self.grid, int(nibbles),
            self.panels.groups, self.panels.columns, self.panels.k,
        )  # fmt: skip

    def _wide(self, x: Array) -> Array:
        """[columns], or one number for all of them, padded to whole panels."""
        found = np.zeros(self.panels.count * COLUMNS, x.dtype)
        found[: self.panels.columns] = x
        return found

    @property
    def weight_bytes(self) -> int:
        """Bytes that the weight's codes take in memory."""
        return self.panels.codes.nbytes

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        p, work = self.panels, self.work
        rows = x.numel() // p.k
        rounds = -(-rows // (work.threads * CHUNK))
        chunk = padded(-(-rows // (work.threads * rounds)), ROWS) if rows else ROWS
        parts = 1 if rows >= ROWS * work.threads else min(work.threads, p.count)
        chunk = chunk if parts == 1 else padded(rows, ROWS)
        out = torch.empty(*x.shape[:-1], p.columns)
        kernels.linear(
            flat(x), rows, p.k, self.grid, p.codes, p.nibbles, p.groups, self.start, self.zero, self.factor, self.bias,
            p.columns, out.view(-1).numpy(), chunk, parts, work.take("codes", chunk * p.groups * GROUP, np.uint8),
            work.take("sums", chunk, np.int32), work.take("acc", ROWS * COLUMNS, np.int32), work.plain,
        )  # fmt: skip
        return out


class Int8Patches(nn.Module):
    """QConv2d whose windows do not overlap: a linear layer of patches."""

    def __init__(self, layer: QConv2d, work: Work) -> None:
        super().__init__()
        self.product = Int8Linear(layer, work)
        self.size: tuple[int, int] = (layer.kernel_size[0], layer.kernel_size[1])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H/h, W/w]; what is left of H and W beside whole windows is not read."""
        h, w = self.size
        down, right = x.shape[2] // h, x.shape[3] // w
        whole = x[:, :, : down * h, : right * w].reshape(*x.shape[:2], down, h, right, w)
        patches = whole.permute(0, 2, 4, 1, 3, 5).reshape(len(x), down, right, -1)
        found: Tensor = self.product(patches).permute(0, 3, 1, 2)
        return found


class Int8MatMul(nn.Module):
    """QMatMul: a uniform grid on the right, on the left a uniform one or a logarithmic one of few bits."""

    def __init__(self, product: QMatMul, work: Work) -> None:
        super().__init__()
        self.work, self.left, self.right = work, grids.grid_of(product.left), grids.grid_of(product.right)
        entering = product.left
        self.log = entering.steps if isinstance(entering, LogQuantizer) else 0
        halves = grids.half_factors(entering) if isinstance(entering, LogQuantizer) else (self.left[0], 0.0)
        self.factors = (np.array(halves, np.float64) * self.right[0]).astype(np.float32)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[..., n, k] @ [..., k, m] -> [..., n, m]."""
        transposed = right.stride(-2) == 1 and not self.log  # keys: a column's numbers are beside each other
        check_sum(np.array([1, 0, 255, 0]) if self.log else self.left, self.right, left.shape[-1])
        return self._query_key(left, right.mT) if transposed else self._attention_value(left, right)

    def _query_key(self, q: Tensor, k: Tensor) -> Tensor:
        (n, d), m, work = q.shape[-2:], k.shape[-2], self.work
        out, row = torch.empty(*q.shape[:-1], m), work.take("row", padded(d, GROUP), np.uint8)
        keys = work.take("keys", padded(m, COLUMNS) * padded(d, GROUP), np.int8)
        kernels.query_key(
            flat(q), flat(k), q.numel() // (n * d), n, m, d, self.left, self.right, self.factors[0],
            out.view(-1).numpy(), work.take("codes", ROWS * padded(d, GROUP), np.uint8), row, row.view(np.uint32),
            keys, keys.view(np.uint32), work.take("starts", padded(m, COLUMNS), np.int32),
            work.take("acc", ROWS * COLUMNS, np.int32), work.plain,
        )  # fmt: skip
        return out

    def _attention_value(self, p: Tensor, v: Tensor) -> Tensor:
        (n, m), d, work = p.shape[-2:], v.shape[-1], self.work
        out, lda = torch.empty(*p.shape[:-1], d), padded(m, GROUP)
        values = work.take("values", padded(d, COLUMNS) * lda, np.int8)
        kernels.attention_value(
            flat(p), flat(v), p.numel() // (n * m), n, m, d, self.log, self.left, self.right, self.factors,
            out.view(-1).numpy(), work.take("codes", ROWS * lda, np.uint8), work.take("others", ROWS * lda, np.uint8),
            work.take("bits", m, np.int32), work.take("row", padded(d, GROUP), np.uint8), values,
            values.view(np.uint32), work.take("starts", padded(d, COLUMNS), np.int32),
            work.take("acc", ROWS * COLUMNS, np.int32), work.take("adds", ROWS * COLUMNS, np.int32), work.plain,
        )  # fmt: skip
        return out


def _int32(x: Array) -> Array:
    """Modulo 2^32, as the kernels' sums are."""
    return x.astype(np.int64).astype(np.int32)


def _check_range(grid: Array, codes: Array, zero: Array, k: int) -> None:
    """UnsupportedError where a sum of products might leave int32."""
    far = int(np.abs(codes - zero[:, None]).max(initial=0))
    check_sum(grid, np.array([1, -far, far, 0]), k)


def check_sum(left: Array, right: Array, k: int) -> None:
    """UnsupportedError where a sum of k products of two grids might leave int32."""
    largest = float(np.abs(left[1:3]).max()) * float(np.abs(right[1:3]).max()) * k
    if largest >= 2**31:
        raise UnsupportedError(f"a sum of {k} products may reach {largest:.1e}, which int32 does not hold")

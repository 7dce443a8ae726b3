"""The engine: a packed BinaryViT with fused blocks where they are served, single binary products elsewhere."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Executed
from vitq.benchmarks.runtimes.numba_threads import use_threads
from vitq.benchmarks.runtimes.xnor import kernels, probe
from vitq.benchmarks.runtimes.xnor.blocks import FusedBlocks, flat, panels_of, unserved
from vitq.benchmarks.runtimes.xnor.words import COLUMNS, ROWS
from vitq.errors import UnsupportedError
from vitq.methods.binary_vit.binarize import Binarizer, ProbabilityBinarizer, SignBinarizer
from vitq.methods.binary_vit.packed import PackedLinear, PackedMatMul
from vitq.methods.toolkit.modules import replace_modules

Array = np.ndarray[Any, Any]


def padded(count: int, to: int) -> int:
    """The next multiple of `to`."""
    return -(-count // to) * to


def shift_of(binarizer: Binarizer, x: Tensor) -> Tensor:
    """What is added to x before its sign is taken, one row for all tokens of an input or of a head: as it adds it."""
    assert isinstance(binarizer, SignBinarizer)
    channels = binarizer.channels
    tokens = tuple(range(len(channels), x.ndim - 1)) if len(channels) == 1 else (-2,)
    shape = [1 if d in {t % x.ndim for t in tokens} else size for d, size in enumerate(x.shape)]
    if binarizer.shift is None or binarizer.adapt is None:
        return torch.zeros(shape)
    return (binarizer.shift + binarizer.adapt * x.mean(dim=tokens, keepdim=True)).expand(shape)


class XnorLinear(nn.Module):
    """PackedLinear by `kernels.linear`."""

    def __init__(self, layer: PackedLinear, threads: int) -> None:
        super().__init__()
        self.input, self.k, self.columns = layer.input, layer.in_features, layer.out_features
        self.words, self.panels = -(-self.k // 64), panels_of(layer)
        self.factor, self.biased = flat(layer.factor), layer.bias is not None
        self.bias = self.factor if layer.bias is None else flat(layer.bias)
        self.acc = np.zeros((threads, ROWS * COLUMNS), np.int64)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ..., in] -> [B, ..., out]."""
        rows = x.numel() // self.k
        shift = flat(shift_of(self.input, x))
        left = np.zeros(padded(rows, ROWS) * self.words, np.uint64)
        kernels.pack_signs(flat(x), shift, rows, rows // (shift.size // self.k), self.k, self.words, left)
        out = np.empty(rows * self.columns, np.float32)
        kernels.linear(
            left, rows, self.words, self.k, self.panels, self.columns, self.factor, self.bias, self.biased, out,
            self.acc,
        )  # fmt: skip
        return torch.from_numpy(out).view(*x.shape[:-1], self.columns)


class XnorMatMul(nn.Module):
    """PackedMatMul by `kernels.query_key` and `kernels.attend`."""

    def __init__(self, product: PackedMatMul, threads: int) -> None:
        super().__init__()
        self.left, self.right, self.transposed, self.threads = product.left, product.right, product.transposed, threads
        self.factor = np.float32(product.factor.item())
        self.acc = np.zeros((threads, ROWS * COLUMNS), np.int64)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[..., n, k] @ [..., k, m] -> [..., n, m]."""
        return self._query_key(left, right.mT) if self.transposed else self._attend(left, right)

    def _query_key(self, q: Tensor, k: Tensor) -> Tensor:
        (n, d), m = q.shape[-2:], k.shape[-2]
        heads, words = q.numel() // (n * d), (d + 63) // 64
        out = np.empty(heads * n * m, np.float32)
        a = np.zeros((self.threads, padded(n, ROWS) * words), np.uint64)
        b = np.zeros((self.threads, padded(m, COLUMNS) * words), np.uint64)
        kernels.query_key(
            flat(q), flat(shift_of(self.left, q)), flat(k), flat(shift_of(self.right, k)), heads, n, m, d, self.factor,
            out, self.acc, a, b,
        )  # fmt: skip
        return torch.from_numpy(out).view(*q.shape[:-1], m)

    def _attend(self, p: Tensor, v: Tensor) -> Tensor:
        assert isinstance(self.left, ProbabilityBinarizer)
        (n, m), d = p.shape[-2:], v.shape[-1]
        heads, words = p.numel() // (n * m), (m + 63) // 64
        out = np.empty(heads * n * d, np.float32)
        a = np.zeros((self.threads, padded(n, ROWS) * words), np.uint64)
        b = np.zeros((self.threads, padded(d, COLUMNS) * words), np.uint64)
        scale = np.float32(self.left.scale().item())
        kernels.attend(
            flat(p), scale, flat(v), flat(shift_of(self.right, v)), heads, n, m, d, self.factor, out, self.acc, a, b
        )
        return torch.from_numpy(out).view(*p.shape[:-1], d)


class Engine:
    """A packed model compiled for the CPU; `exec` and calls as `Compiled` has them."""

    exec = "xnor:numba"

    def __init__(self, model: nn.Module, example: Tensor, threads: int) -> None:
        self.threads, self.count = threads, Counter[str]()
        own = copy.deepcopy(model).eval()
        for module in own.modules():
            kind = {PackedLinear: "Linear", PackedMatMul: "MatMul"}.get(type(module))
            if kind is not None:
                self.count[kind] += 1
        if not self.count:
            raise UnsupportedError("the engine runs packed binary models: there is no binary product here")
        use_threads(threads)
        self.model = replace_modules(self._fused(own, example), self._single).eval()

    def _fused(self, model: nn.Module, example: Tensor) -> nn.Module:
        """The model with every sequence of blocks that has a fused form which gives this torch's numbers."""
        fused: dict[str, nn.Module] = {}
        for path, blocks in model.named_modules():
            if unserved(blocks) is None:
                found = FusedBlocks(blocks, self.threads)
                if probe.difference(model, blocks, found, example) is None:
                    fused[path] = found
                    self.count["FusedBlock"] += len(found.blocks)
        return replace_modules(model, lambda path, _: fused.get(path)) if fused else model

    def _single(self, _: str, module: nn.Module) -> nn.Module | None:
        if isinstance(module, PackedLinear):
            return XnorLinear(module, self.threads)
        return XnorMatMul(module, self.threads) if isinstance(module, PackedMatMul) else None

    def __call__(self, images: Tensor) -> Tensor:
        """The packed model's output, bit for bit."""
        use_threads(self.threads)
        with torch.inference_mode():
            found: Tensor = self.model(images)
        return found

    def executed(self) -> Executed:
        """Binary products at one bit; the layers that the method leaves in floating point beside them.

        `FusedBlock` counts the blocks that run as fused kernels; in others the binary products alone are the engine's
        and the rest torch's operators, since the block is of another kind or its fused form gave another bit.
        """
        found: dict[str, dict[str, int]] = {kind: {"1": n} for kind, n in self.count.items()}
        for module in self.model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                widths = found.setdefault(type(module).__name__, {})
                widths["fp32"] = widths.get("fp32", 0) + 1
        return found

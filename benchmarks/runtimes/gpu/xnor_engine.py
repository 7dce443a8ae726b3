"""The engine: a packed BinaryViT whose binary products are Triton's kernels, the rest torch's own operators.

Binary products are exact integers. What is in floating point (means of the shifts, softmax, LayerNorm, the first and
the last layer) is computed by the very operators of the packed model in torch, on the same numbers on the same device.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import triton
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Executed
from vitq.benchmarks.runtimes.gpu import bits, device
from vitq.errors import UnsupportedError
from vitq.methods.binary_vit.binarize import Binarizer, SignBinarizer
from vitq.methods.binary_vit.packed import PackedLinear, PackedMatMul
from vitq.methods.toolkit.modules import replace_modules

NATIVE = not device.interpreting()
"""Whether a GPU's own popcount is there."""
PACKED_ROWS = 32
"""Rows that a program packs."""


class Words(NamedTuple):
    """Bits as int32 words [batch, words, rows], and how many bits a row has."""

    words: Tensor
    k: int


def words_of(packed: Tensor) -> Tensor:
    """uint8 [rows, ceil(k/8)], first bit lowest -> int32 [ceil(k/32), rows]."""
    wide = F.pad(packed, (0, -packed.shape[1] % 4)).contiguous().view(torch.int32)
    return wide.T.contiguous()


def shift_of(binarizer: Binarizer, x: Tensor) -> Tensor:
    """What is added to x before its sign is taken, computed as the binarizer does; of x's shape, without its memory."""
    assert isinstance(binarizer, SignBinarizer)
    if binarizer.shift is None or binarizer.adapt is None:
        return x.new_zeros(()).expand(x.shape)
    channels = binarizer.channels
    tokens = tuple(range(len(channels), x.ndim - 1)) if len(channels) == 1 else (-2,)
    return (binarizer.shift + binarizer.adapt * x.mean(dim=tokens, keepdim=True)).expand(x.shape)


def pack(x: Tensor, shift: Tensor | None, scale: Tensor | None = None) -> Words:
    """The signs of x + shift, or where there is none whether x / scale > 1/2: x [batch, heads, rows, k]."""
    batch, heads, rows, k = x.shape
    count = triton.cdiv(k, 32)
    out = torch.empty(batch * heads, count, rows, dtype=torch.int32, device=x.device)
    by, above = (x if shift is None else shift), shift is None
    bits.pack[(batch * heads, triton.cdiv(rows, PACKED_ROWS), count)](
        x, *x.stride(), by, *by.stride(), x if scale is None else scale, above, heads, rows, k, count, out, PACKED_ROWS,
        enable_fp_fusion=False,
    )  # fmt: skip
    return Words(out, k)


def product(a: Words, b: Tensor, factor: Tensor, bias: Tensor | None, both: bool) -> Tensor:
    """float32 [batch, M, N] of words a and words b [words, N] or [batch, words, N]; see `bits.product`."""
    batch, words, m = a.words.shape
    n = b.shape[-1]
    out = torch.empty(batch, m, n, device=b.device)
    bm, bn = (64, 64) if batch * m > 1024 else (16, 64)
    bits.product[(triton.cdiv(m, bm) * triton.cdiv(n, bn), batch)](
        a.words, b, words * n if b.ndim == 3 else 0, factor, int(factor.numel() > 1), factor if bias is None else bias,
        bias is not None, both, out, m, n, a.k, words, NATIVE, bm, bn, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return out


class XnorLinear(nn.Module):
    """PackedLinear by `bits.product`."""

    words: Tensor
    factor: Tensor
    bias: Tensor | None

    def __init__(self, layer: PackedLinear) -> None:
        super().__init__()
        self.input, self.k, self.columns = layer.input, layer.in_features, layer.out_features
        self.register_buffer("words", words_of(layer.words))
        self.register_buffer("factor", layer.factor)
        self.register_buffer("bias", layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ..., in] -> [B, ..., out]."""
        rows = x.numel() // (len(x) * self.k)
        by = shift_of(self.input, x)
        packed = pack(*(t.reshape(len(x), 1, rows, self.k) for t in (x, by)))
        flat = Words(packed.words.transpose(0, 1).reshape(1, packed.words.shape[1], -1), self.k)
        return product(flat, self.words, self.factor, self.bias, both=False).view(*x.shape[:-1], self.columns)


class XnorMatMul(nn.Module):
    """PackedMatMul by `bits.product`."""

    factor: Tensor

    def __init__(self, layer: PackedMatMul) -> None:
        super().__init__()
        self.left, self.right, self.transposed = layer.left, layer.right, layer.transposed
        self.register_buffer("factor", layer.factor)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[batch, heads, n, k] @ [batch, heads, k, m] -> [batch, heads, n, m]."""
        if self.transposed:
            right = right.mT
            a, b = pack(left, shift_of(self.left, left)), pack(right, shift_of(self.right, right))
        else:
            a, b = pack(left, None, self.left.scale()), pack(right.mT, shift_of(self.right, right).mT)
        y = product(a, b.words, self.factor, None, both=not self.transposed)
        return y.view(*left.shape[:-1], b.words.shape[-1])


class Engine:
    """A packed model compiled for a GPU and one batch; `exec` and calls as `Compiled` has them."""

    exec = "xnor:triton"

    def __init__(self, model: nn.Module, example: Tensor, to: torch.device) -> None:
        self.count = Counter[str]()

        def swap(_: str, module: nn.Module) -> nn.Module | None:
            if isinstance(module, PackedLinear):
                self.count["Linear"] += 1
                return XnorLinear(module)
            if isinstance(module, PackedMatMul):
                self.count["MatMul"] += 1
                return XnorMatMul(module)
            return None

        self.model = replace_modules(copy.deepcopy(model), swap).to(to).eval()
        if not self.count:
            raise UnsupportedError("the engine runs packed binary models: there is no binary product here")
        self.call = device.Captured(self.model, example, to)

    def __call__(self, images: Tensor) -> Any:
        """The packed model's output."""
        return self.call(images)

    def executed(self) -> Executed:
        """Binary products at one bit; the layers that the method leaves in floating point beside them."""
        found: dict[str, dict[str, int]] = {kind: {"1": n} for kind, n in self.count.items()}
        for module in self.model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                widths = found.setdefault(type(module).__name__, {})
                widths["fp32"] = widths.get("fp32", 0) + 1
        return found

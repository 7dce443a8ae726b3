"""A ViT's block on fused kernels, where it has nothing that they do not compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from timm.layers.attention import Attention as TimmAttention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from vitq.benchmarks.runtimes.int4 import grids, regions
from vitq.benchmarks.runtimes.int4.layers import CHUNK, Int8Linear, Work, check_sum, flat
from vitq.benchmarks.runtimes.int4.packing import padded
from vitq.benchmarks.runtimes.int4.tile import COLUMNS, GROUP, ROWS
from vitq.errors import UnsupportedError
from vitq.methods.repq_vit.log_quantizers import LogQuantizer
from vitq.methods.toolkit.layers import QLinear, QMatMul


def fuses(block: nn.Module) -> bool:
    """Whether a module is a timm ViT block that the fused kernels compute whole."""
    if not isinstance(block, Block) or not isinstance(block.attn, TimmAttention):
        return False
    attention: Any = block.attn
    mlp: Any = block.mlp
    layers = [attention.qkv, attention.proj, mlp.fc1, mlp.fc2]
    idle = [
        attention.q_norm, attention.k_norm, attention.norm, mlp.norm, block.ls1, block.ls2, block.drop_path1,
        block.drop_path2,
    ]  # fmt: skip
    return (
        all(isinstance(layer, QLinear) and layer.input_quantizer is not None for layer in layers)
        and all(isinstance(module, nn.Identity) for module in idle)
        and all(isinstance(norm, nn.LayerNorm) and norm.elementwise_affine for norm in (block.norm1, block.norm2))
        and isinstance(mlp.act, nn.GELU)
        and mlp.act.approximate == "none"
        and attention.gate is None
        and _products(attention.qk, attention.av)
    )


def _products(qk: nn.Module, av: nn.Module) -> bool:
    if not isinstance(qk, QMatMul) or not isinstance(av, QMatMul):
        return False
    whole = [qk.left, qk.right, av.right] + ([] if isinstance(av.left, LogQuantizer) else [av.left])
    return not any(grids.input_reason(quantizer) for quantizer in whole)


class Int8Block(nn.Module):
    """A block of ViT or DeiT: [B, N, C] -> [B, N, C]."""

    def __init__(self, block: Block, work: Work) -> None:
        super().__init__()
        self.work = work
        attention: Any = block.attn
        self.qkv, self.proj = Int8Linear(attention.qkv, work), Int8Linear(attention.proj, work)
        mlp: Any = block.mlp
        self.fc1, self.fc2 = Int8Linear(mlp.fc1, work), Int8Linear(mlp.fc2, work)
        self.norm1, self.norm2 = (_norm(norm) for norm in (block.norm1, block.norm2))
        self.wide = _wide(attention.av.left)
        self.attention = _attention(attention, self.wide)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """As the block's own; UnsupportedError for a mask."""
        if attn_mask is not None or is_causal:
            raise UnsupportedError("the fused block serves attention without a mask")
        given, (b, n, _) = flat(x), x.shape
        mixed = self._attend(self._enter(given, b * n), b, n)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        self._leave(given, mixed, b * n, out)
        return out

    def _chunk(self, rows: int) -> int:
        threads = self.work.threads
        rounds = -(-rows // (threads * CHUNK))
        return padded(-(-rows // (threads * rounds)), ROWS)

    def _enter(self, x: grids.Array, rows: int) -> grids.Array:
        work, p, chunk = self.work, self.qkv.product, self._chunk(rows)
        out = work.whole("qkv", rows * p.columns)
        regions.enter(
            x, rows, chunk, self.norm1, p, out, work.take("normal", p.k, np.float32),
            work.take("codes", chunk * p.groups * GROUP, np.uint8), work.take("sums", chunk, np.int32),
            work.take("acc", ROWS * COLUMNS, np.int32), work.plain,
        )  # fmt: skip
        return out

    def _attend(self, qkv: grids.Array, images: int, tokens: int) -> grids.Array:
        work, k = self.work, self.attention
        check_sum(k.q, k.k, k.d)
        if not k.wide:
            check_sum(np.array([1, 0, 255, 0]) if k.log else k.p, k.v, tokens)
        tasks, lda, wide = images * k.heads, padded(max(tokens, k.d), GROUP), padded(tokens, COLUMNS)
        parts = 1 if tasks % work.threads == 0 or tasks > 8 * work.threads else work.threads
        out, row = work.whole("mixed", images * tokens * k.heads * k.d), work.take("row", padded(k.d, GROUP), np.uint8)
        keys = work.take("keys", wide * padded(k.d, GROUP), np.int8)
        values = work.take("values", padded(k.d, COLUMNS) * lda, np.int8)
        regions.attention(
            qkv, images, tokens, parts, k, out, work.take("codes", ROWS * lda, np.uint8),
            work.take("others", ROWS * lda, np.uint8), row, row.view(np.uint32), keys, keys.view(np.uint32), values,
            values.view(np.uint32), work.take("floats", padded(k.d, COLUMNS) * tokens * k.wide, np.float32),
            work.take("starts", wide, np.int32), work.take("opens", padded(k.d, COLUMNS), np.int32),
            work.take("begins", 2 * ROWS, np.int32), work.take("acc", ROWS * COLUMNS, np.int32),
            work.take("adds", ROWS * COLUMNS, np.int32), work.take("logits", ROWS * wide, np.float32),
            work.take("bits", wide, np.int32), work.plain,
        )  # fmt: skip
        return out

    def _leave(self, x: grids.Array, mixed: grids.Array, rows: int, out: Tensor) -> None:
        work, chunk = self.work, self._chunk(rows)
        proj, fc1, fc2 = self.proj.product, self.fc1.product, self.fc2.product
        regions.leave(
            x, mixed, rows, chunk, proj, self.norm2, fc1, fc2, out.view(-1).numpy(),
            work.take("normal", fc1.k, np.float32),
            work.take("codes", chunk * max(proj.groups, fc1.groups) * GROUP, np.uint8),
            work.take("hidden", chunk * fc2.groups * GROUP, np.uint8), work.take("sums", chunk, np.int32),
            work.take("totals", chunk, np.int32), work.take("acc", ROWS * COLUMNS, np.int32),
            work.take("reals", ROWS * COLUMNS, np.float32), work.plain,
        )  # fmt: skip


def _norm(norm: nn.Module) -> regions.Norm:
    assert isinstance(norm, nn.LayerNorm)
    return regions.Norm(flat(norm.weight), flat(norm.bias), np.float32(norm.eps))


def _wide(quantizer: object) -> bool:
    return isinstance(quantizer, LogQuantizer) and grids.attention_reason(quantizer) is not None


def _attention(attention: Any, wide: bool) -> regions.Attention:
    qk, av = attention.qk, attention.av
    q, k, p, v = (grids.grid_of(quantizer) for quantizer in (qk.left, qk.right, av.left, av.right))
    logarithmic = av.left if isinstance(av.left, LogQuantizer) else None
    halves = grids.half_factors(logarithmic) if logarithmic else (float(p[0]), 0.0)
    return regions.Attention(
        q, k, p, v, (np.array(halves, np.float64) * v[0]).astype(np.float32),
        np.float32(q[0] * k[0] * np.float32(attention.scale)), logarithmic.steps if logarithmic else 0, int(wide),
        int(logarithmic is not None and logarithmic.overflow == "zero"), attention.num_heads, attention.head_dim,
    )  # fmt: skip

"""Transformer blocks of a packed ViT as regions of fused kernels; what a block must be for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.xnor import kernels, regions
from vitq.benchmarks.runtimes.xnor.rows import WORD, cascade_power
from vitq.benchmarks.runtimes.xnor.words import COLUMNS, ROWS
from vitq.methods.architectures.timm_vit import ExplicitBlock
from vitq.methods.binary_vit.binarize import Binarizer, ProbabilityBinarizer, SignBinarizer
from vitq.methods.binary_vit.packed import PackedLinear, PackedMatMul, wide

Array = np.ndarray[Any, Any]


def flat(x: Tensor) -> Array:
    """The numbers of a tensor in the order of its dimensions, as kernels take them."""
    numbers: Array = x.detach().contiguous().view(-1).numpy()
    return numbers


def panels_of(layer: PackedLinear) -> Array:
    """A layer's words as panels of 16 columns."""
    rows = np.ascontiguousarray(wide(layer.words).numpy().view(np.uint64))
    found = np.zeros(-(-rows.shape[0] // COLUMNS) * COLUMNS * rows.shape[1], np.uint64)
    kernels.panels(rows.reshape(-1), *rows.shape, found)
    return found


def shift_and_adapt(*binarizers: Binarizer) -> tuple[Array, Array]:
    """The channels of both parts of the shift, one binarizer after the other; zeros where it has none."""
    both: tuple[list[Array], list[Array]] = [], []
    for each in binarizers:
        assert isinstance(each, SignBinarizer)
        channels = int(np.prod(each.channels))
        for found, part in zip(both, (each.shift, each.adapt), strict=True):
            found.append(np.zeros(channels, np.float32) if part is None else flat(part))
    return np.concatenate(both[0]), np.concatenate(both[1])


def least_probability(binarizer: Binarizer) -> np.float32:
    """The smallest float32 whose bit is 1: division by the scale is monotonic, so that one comparison says as much."""
    scale = np.float32(binarizer.scale().item())
    found = np.float32(0.5) * scale
    while found / scale > np.float32(0.5):
        found = np.nextafter(found, np.float32(0))
    while not found / scale > np.float32(0.5):
        found = np.nextafter(found, np.float32(np.inf))
    return np.float32(found)


def activation_table(layer: PackedLinear, activation: nn.Module) -> Array:
    """[out, in + 1]: what the activation makes of every number of differing bits, computed by itself."""
    whole = layer.in_features
    counts = torch.arange(whole + 1, dtype=torch.float32)
    y = (whole - 2 * counts) * layer.factor[:, None]
    return flat(activation(y if layer.bias is None else y + layer.bias[:, None]))


@dataclass(frozen=True)
class Linear:
    """A layer as kernels take it."""

    words: int
    panels: Array
    factor: Array
    bias: Array

    @classmethod
    def of(cls, layer: PackedLinear) -> Linear:
        """Take over a layer's words and factors; a missing bias is zero."""
        bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
        return cls(layer.in_features // WORD, panels_of(layer), flat(layer.factor), flat(bias))


class Block:
    """One block's constants."""

    def __init__(self, block: Any) -> None:
        attention, mlp = block.attn, block.mlp
        self.heads, self.scale = int(attention.num_heads), np.float32(attention.scale)
        self.qkv, self.proj, self.fc2 = Linear.of(attention.qkv), Linear.of(attention.proj), Linear.of(mlp.fc2)
        self.qkv_in, self.proj_in = shift_and_adapt(attention.qkv.input), shift_and_adapt(attention.proj.input)
        self.fc1_in, self.fc2_in = shift_and_adapt(mlp.fc1.input), shift_and_adapt(mlp.fc2.input)
        self.heads_in = shift_and_adapt(attention.qk.left, attention.qk.right, attention.av.right)
        self.score_factor = np.float32(attention.qk.factor.item())
        self.value_factor = np.float32(attention.av.factor.item())
        self.least = least_probability(attention.av.left)
        self.fc1, self.table = panels_of(mlp.fc1), activation_table(mlp.fc1, mlp.act)
        self.hidden = mlp.fc1.out_features // WORD
        self.norms = [(flat(n.weight), flat(n.bias), np.float32(n.eps)) for n in (block.norm1, block.norm2)]


class Buffers:
    """Everything that a call writes, for one batch."""

    def __init__(self, images: int, tokens: int, channels: int, hidden: int, threads: int) -> None:
        rows, words = images * tokens, -(-tokens // WORD)
        padded, many = rows + ROWS, words * WORD + ROWS
        self.x, self.y = np.zeros(rows * channels, np.float32), np.zeros(rows * channels, np.float32)
        self.narrow = [np.zeros(padded * channels // WORD, np.uint64) for _ in range(2)]
        self.wide = np.zeros(padded * hidden, np.uint64)
        self.acc = np.zeros((threads, ROWS * COLUMNS), np.int32)
        self.levels, self.mean = np.zeros((threads, 4, WORD), np.float32), np.zeros((threads, WORD), np.float32)
        self.floats, self.e = (np.zeros((threads, n), np.float32) for n in (many * WORD, words * WORD + COLUMNS))
        self.signs, self.bits = np.zeros((threads, 4, many), np.uint64), np.zeros((threads, many * words), np.uint64)
        self.panels, self.counts = (
            np.zeros((threads, WORD * words), np.uint64), np.zeros((threads, 2, many), np.int32)
        )  # fmt: skip
        self.moments = np.zeros((threads, 2, 8, 8), np.float32)


class FusedBlocks(nn.Module):
    """A sequence of blocks, [B, N, C] -> [B, N, C], the packed form's numbers bit for bit."""

    def __init__(self, blocks: nn.Sequential, threads: int) -> None:
        super().__init__()
        self.blocks, self.threads = [Block(block) for block in blocks], threads
        self.shape: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        """Tokens through every block."""
        images, tokens, channels = x.shape
        if self.shape != tuple(x.shape):
            self.shape, self.power = tuple(x.shape), cascade_power(tokens)
            self.work = Buffers(images, tokens, channels, self.blocks[0].hidden, self.threads)
        w = self.work
        w.x[:] = flat(x)
        regions.norm(w.x, images * tokens, channels, *self.blocks[0].norms[0], w.y, w.moments)
        for block, following in zip(self.blocks, [*self.blocks[1:], self.blocks[-1]], strict=True):
            self._attention(block, images, tokens, channels)
            self._mlp(block, following.norms[0], images, tokens, channels)
        return torch.from_numpy(w.x.copy()).view(x.shape)

    def _attention(self, block: Block, images: int, tokens: int, channels: int) -> None:
        w = self.work
        into, out = w.narrow
        regions.pack(w.y, images, tokens, channels, self.power, *block.qkv_in, into, w.levels, w.mean)
        regions.attention(
            into, images, tokens, block.qkv.words, block.heads, self.power, block.qkv.panels, block.qkv.factor,
            block.qkv.bias, *block.heads_in, block.score_factor, block.scale, block.least, block.value_factor,
            *block.proj_in, out, w.acc, w.levels, w.mean, w.floats, w.signs, w.bits, w.panels, w.counts, w.e,
        )  # fmt: skip
        p = block.proj
        regions.project(
            out, images * tokens, p.words, p.panels, channels, p.factor, p.bias, w.x, *block.norms[1], w.y, w.acc,
            w.moments,
        )  # fmt: skip

    def _mlp(
        self, block: Block, norm: tuple[Array, Array, np.float32], images: int, tokens: int, channels: int
    ) -> None:
        w, p = self.work, block.fc2
        into = w.narrow[0]
        regions.pack(w.y, images, tokens, channels, self.power, *block.fc1_in, into, w.levels, w.mean)
        regions.hidden(
            into, images, tokens, channels // WORD, self.power, block.fc1, block.table, *block.fc2_in, block.hidden,
            w.wide, w.acc, w.levels, w.mean, w.floats,
        )  # fmt: skip
        regions.project(
            w.wide, images * tokens, p.words, p.panels, channels, p.factor, p.bias, w.x, *norm, w.y, w.acc, w.moments
        )


def unserved(blocks: nn.Module) -> str | None:
    """Why a module is no sequence of blocks that `FusedBlocks` serves, or None."""
    if not isinstance(blocks, nn.Sequential) or not len(blocks):
        return "not a sequence of blocks"
    for block in blocks:
        if not isinstance(block, ExplicitBlock):
            return "a block of another family"
        reason = _unserved_block(block)
        if reason is not None:
            return reason
    return None


def _unserved_block(block: Any) -> str | None:
    attention, mlp = block.attn, block.mlp
    linears = attention.qkv, attention.proj, mlp.fc1, mlp.fc2
    if not all(isinstance(each, PackedLinear) for each in linears) or not isinstance(attention.qk, PackedMatMul):
        return "a block that is not binary"
    plain = block.ls1, block.ls2, attention.q_norm, attention.k_norm, attention.norm, getattr(mlp, "norm", None)
    if not all(each is None or isinstance(each, nn.Identity) for each in plain) or attention.gate is not None:
        return "a block with LayerScale, a gate or norms within its branches"
    channels = attention.qkv.in_features
    if channels != attention.num_heads * WORD or attention.attn_dim != channels or mlp.fc1.out_features % WORD:
        return "heads of another width than 64 channels"
    norms = block.norm1, block.norm2
    if not all(isinstance(n, nn.LayerNorm) and n.weight is not None and n.bias is not None for n in norms):
        return "norms other than LayerNorm with weight and bias"
    return None if isinstance(attention.av.left, ProbabilityBinarizer) else "probabilities of another kind"

"""The engine: an integer network compiled for one batch into constants, buffers and a list of parallel regions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitq.benchmarks.runtimes.base import Executed
from vitq.benchmarks.runtimes.i_vit import blocks, parts, regions
from vitq.benchmarks.runtimes.i_vit.pool import Pool
from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS, ROWS
from vitq.benchmarks.runtimes.numba_threads import use_threads
from vitq.errors import UnsupportedError
from vitq.methods.i_vit.ends import IntegerInput, IntegerReals
from vitq.methods.i_vit.layernorm import IntegerLayerNorm
from vitq.methods.i_vit.linear import IntegerLinear
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.sums import IntegerAddConstant
from vitq.methods.i_vit.tokens import IntegerClassToken

CHUNK = 102
"""Most rows that go through a block together: their hidden activations stay in the second cache."""


class Embedding:
    """Image to tokens: the scale of the image, the patch embedding, positions, and the tokens that lead."""

    def __init__(self, network: Network, size: tuple[int, int]) -> None:
        if not isinstance(network.input, IntegerInput):
            raise UnsupportedError("the engine serves the integer form of I-ViT: give it a model in integers")
        self.scale = np.float32(network.input.scale)
        node = blocks.step(network, "projection", IntegerLinear)
        add = blocks.step(network, "position_add", IntegerAddConstant)
        if "embedding_norm" in network.steps or any(s % p for s, p in zip(size, network.patch, strict=True)):
            raise UnsupportedError("the engine serves images of whole patches without a norm after the embedding")
        self.patch = network.patch
        self.grid = size[0] // self.patch[0], size[1] // self.patch[1]
        self.product = parts.product_of(node)
        assert node.out is not None
        self.number = parts.scale_of(node.out, self.product.columns)
        self.left, self.top = parts.scale_of(add.left, 1), 2 ** (add.bits - 1) - 1
        positions = add.arrange(add.codes, *self.grid)
        self.positions = positions.to(torch.int32).reshape(-1).numpy().copy()
        self.first, self.extra = self._leading(network, add)

    def _leading(self, network: Network, add: IntegerAddConstant) -> tuple[parts.Array, int]:
        """The class token with its position, which no image changes: int32 [extra * C]."""
        columns = self.product.columns
        if "tokens" not in network.steps:
            raise UnsupportedError("the engine serves transformers with a class token")
        patches = torch.zeros(1, self.grid[0] * self.grid[1], columns, dtype=torch.int32)
        tokens = blocks.step(network, "tokens", IntegerClassToken)
        extra = tokens.token.shape[-2]
        found = add(tokens(patches), *self.grid)[0, :extra].to(torch.int32)
        return found.reshape(-1).numpy().copy(), extra


class Engine:
    """A ViT or DeiT classifier in integers for batches of one size; `exec` and calls as `Compiled` has them."""

    exec = "integer-only:numba"

    def __init__(self, network: Network, example: Tensor, threads: int) -> None:
        if not network.classifies or network.layout != "tokens" or network.levels:
            raise UnsupportedError("the engine serves classifiers of tokens: ViT and DeiT")
        self.network, self.threads, self.shape = network, threads, tuple(example.shape)
        self.embedding = Embedding(network, (self.shape[2], self.shape[3]))
        found: list[Any] = [network.get_submodule(path) for path in network.trunk]
        self.blocks = tuple(blocks.block_of(block) for block in found)
        self.heads = [int(block.heads) for block in found]
        self.norm = blocks.norm(blocks.step(network, "norm", IntegerLayerNorm))
        head = blocks.step(network, "head", IntegerLinear)
        assert head.out is not None
        assert isinstance(network.output, IntegerReals)
        self.head = parts.product_of(head)
        self.head_scale = parts.scale_of(head.out, self.head.columns)
        self.worth: Tensor = network.output.scale
        pool, e = Pool(), self.embedding
        self.first_row = pool.row((e.product, e.number, e.left))
        self.block_rows = [pool.row(block) for block in self.blocks]
        self.constants = pool.arrays()
        self._make_buffers()

    def _make_buffers(self) -> None:
        batch, embedding = self.shape[0], self.embedding
        self.patches_each = embedding.grid[0] * embedding.grid[1]
        self.tokens = self.patches_each + embedding.extra
        self.rows = batch * self.tokens
        channels, wide = embedding.product.columns, [b.fc1.columns for b in self.blocks]
        self.ld, self.ldq = (parts.padded(x, COLUMNS) for x in (channels, 3 * channels))
        self.ldh, self.ldo = parts.padded(max(wide), COLUMNS), self.head.panels * COLUMNS
        self.ldp = 4 * embedding.product.steps
        tall, count = parts.padded(self.rows, ROWS) + ROWS, batch * self.patches_each
        self.chunk = self._chunk()
        self.patches = np.zeros((count + ROWS) * self.ldp, np.uint8)
        self.stream = np.zeros(tall * self.ld, np.int32)
        self.mixed = np.zeros(tall * self.ld, np.uint8)
        self.qkv = np.zeros(tall * self.ldq, np.uint8)
        self.normal = np.zeros((self.threads, self.chunk * self.ld), np.uint8)
        self.hidden = np.zeros((self.threads, self.chunk * self.ldh), np.uint8)
        self.acc = np.zeros((self.threads, ROWS * COLUMNS), np.int32)
        self.last = np.zeros(parts.padded(batch, ROWS) * self.ld, np.uint8)
        self.logits = np.zeros(parts.padded(batch, ROWS) * self.ldo, np.int32)
        self.work = self._work(channels)

    def _chunk(self) -> int:
        """Rows a chunk: whole tiles, at most CHUNK, as many chunks for each thread."""
        rounds = -(-self.rows // (self.threads * CHUNK))
        return parts.padded(-(-self.rows // (self.threads * rounds)), ROWS)

    def _work(self, channels: int) -> parts.Work:
        threads, wide = self.threads, parts.padded(self.tokens, COLUMNS)
        d = max(channels // heads for heads in self.heads)
        keys = np.zeros((threads, wide * d), np.int8)
        values = np.zeros((threads, parts.padded(d, COLUMNS) * wide), np.int8)
        return parts.Work(
            keys, keys.view(np.uint32), values, values.view(np.uint32), np.zeros((threads, wide), np.int32),
            np.zeros((threads, COLUMNS), np.int32), np.zeros((threads, ROWS * COLUMNS), np.int32),
            np.zeros((threads, ROWS * wide), np.uint8), np.zeros((threads, wide), np.int32),
            np.zeros((threads, ROWS * wide), np.uint8),
        )  # fmt: skip

    def __call__(self, images: Tensor) -> Tensor:
        """Normalized images [B, 3, H, W] to logits [B, classes]; ValueError for a shape that was not compiled."""
        if tuple(images.shape) != self.shape:
            raise ValueError(f"compiled for images of {list(self.shape)}, not {list(images.shape)}")
        use_threads(self.threads)
        self._embed(images.detach().float().contiguous().numpy())
        regions.enter(
            self.stream, self.ld, self.rows, self.chunk, self.block_rows[0], *self.constants, self.qkv, self.ldq,
            self.normal, self.acc,
        )  # fmt: skip
        for index in range(len(self.blocks)):
            self._attend(index)
            self._between(index)
        return self._classify()

    def _embed(self, images: parts.Array) -> None:
        e, batch, c = self.embedding, self.shape[0], self.constants
        regions.quantize_patches(images, e.scale, *e.patch, self.patches, self.ldp)
        regions.embed(
            self.patches, self.ldp, batch * self.patches_each, self.patches_each, self.tokens, e.extra, self.first_row,
            c.int8, c.int32, c.int64, e.positions, e.top, e.first, self.stream, self.ld, self.acc,
        )  # fmt: skip

    def _attend(self, index: int) -> None:
        block, heads, batch = self.blocks[index], self.heads[index], self.shape[0]
        d = block.proj.columns // heads
        split = 1 if batch * heads % self.threads == 0 or batch * heads > 8 * self.threads else self.threads
        regions.attention(
            self.qkv, self.qkv.view(np.uint32), self.ldq, batch, self.tokens, heads, d, split,
            self.block_rows[index], *self.constants, self.mixed, self.ld, *self.work,
        )  # fmt: skip

    def _between(self, index: int) -> None:
        last = index + 1 == len(self.blocks)
        regions.between(
            self.mixed, self.stream, self.ld, self.rows, self.chunk, self.block_rows[index],
            self.block_rows[index if last else index + 1], last, *self.constants, self.qkv, self.ldq, self.normal,
            self.hidden, self.ldh, self.acc,
        )  # fmt: skip

    def _classify(self) -> Tensor:
        batch = self.shape[0]
        regions.classify(
            self.stream, self.ld, batch, self.tokens, self.norm, self.head, self.head_scale, self.last, self.logits,
            self.ldo, self.acc[0],
        )  # fmt: skip
        codes = torch.from_numpy(self.logits.reshape(-1, self.ldo)[:batch, : self.head.columns])
        return codes * self.worth

    def executed(self) -> Executed:
        """Operators by width, of the regions that a call runs."""
        count = len(self.blocks)
        return {
            "Linear": {"int8": 4 * count + 2},
            "MatMul": {"int8": 2 * count},
            "LayerNorm": {"int32": 2 * count + 1},
            "Softmax": {"int8": count},
            "Gelu": {"int8": count},
            "Add": {"int32": 2 * count + 1},
        }

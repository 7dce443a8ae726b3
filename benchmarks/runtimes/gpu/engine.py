"""The engine: an integer network compiled for one batch into constants and buffers on a GPU and a list of kernels."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from vitq.benchmarks.runtimes.base import Executed
from vitq.benchmarks.runtimes.gpu import attention, device, integers, products, rows, tiles
from vitq.errors import UnsupportedError
from vitq.methods.i_vit.ends import IntegerInput, IntegerReals
from vitq.methods.i_vit.layernorm import IntegerLayerNorm
from vitq.methods.i_vit.linear import IntegerLinear
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.sums import IntegerAddConstant
from vitq.methods.i_vit.tokens import IntegerClassToken

MAX_KEYS = 1024
"""Most tokens whose logits a program holds for 16 queries."""
MAX_CODES = 2**31
"""Kernels count codes in 32 bits."""


class Embedding:
    """Image to tokens: the scale of the image, the patch embedding, positions, and the tokens that lead."""

    def __init__(self, network: Network, size: tuple[int, int], to: torch.device) -> None:
        if not isinstance(network.input, IntegerInput):
            raise UnsupportedError("the engine serves the integer form of I-ViT: give it a model in integers")
        node = integers.step(network, "projection", IntegerLinear)
        add = integers.step(network, "position_add", IntegerAddConstant)
        if "embedding_norm" in network.steps or any(s % p for s, p in zip(size, network.patch, strict=True)):
            raise UnsupportedError("the engine serves images of whole patches without a norm after the embedding")
        assert node.out is not None
        self.scale = network.input.scale.reshape(1).to(to)
        self.patch = network.patch
        self.grid = size[0] // self.patch[0], size[1] // self.patch[1]
        self.product = integers.product(node, to)
        self.number = integers.scale(node.out, to, len(node.weight))
        self.left, self.bits = integers.scale(add.left, to), add.bits
        self.positions = add.arrange(add.codes, *self.grid).to(to, torch.int32).reshape(-1, len(node.weight))
        self.first = self._leading(network, add).to(to)

    def _leading(self, network: Network, add: IntegerAddConstant) -> Tensor:
        """The class token with its position, which no image changes: int32 [extra, C]."""
        if "tokens" not in network.steps:
            raise UnsupportedError("the engine serves transformers with a class token")
        tokens = integers.step(network, "tokens", IntegerClassToken)
        count, channels = self.grid[0] * self.grid[1], tokens.token.shape[-1]
        patches = torch.zeros(1, count, channels, dtype=torch.int32, device=tokens.token.device)
        found: Tensor = add(tokens(patches), *self.grid)[0, : tokens.token.shape[-2]]
        return found.to(torch.int32)


class Engine:
    """A ViT or DeiT classifier in integers for batches of one size; `exec` and calls as `Compiled` has them."""

    exec = "integer-only:triton"

    def __init__(self, network: Network, example: Tensor, to: torch.device) -> None:
        if not network.classifies or network.layout != "tokens" or network.levels:
            raise UnsupportedError("the engine serves classifiers of tokens: ViT and DeiT")
        self.device, self.shape, self.tiles = to, tuple(example.shape), tiles.Tiles(to)
        self.embedding = Embedding(network, (self.shape[2], self.shape[3]), to)
        found: list[Any] = [network.get_submodule(path) for path in network.trunk]
        self.blocks = [integers.block(block, to) for block in found]
        self.norm = integers.norm(integers.step(network, "norm", IntegerLayerNorm), to)
        head = integers.step(network, "head", IntegerLinear)
        assert head.out is not None
        assert isinstance(network.output, IntegerReals)
        self.head = integers.product(head, to)
        self.head_scale = integers.scale(head.out, to, len(head.weight))
        self.worth = network.output.scale.reshape(1).to(to)
        self._make_buffers()
        with device.on(to), torch.inference_mode():
            self._run(example.to(to, torch.float32).contiguous())  # finds the tiles
        self.call = device.Captured(self._run, example, to)

    def _make_buffers(self) -> None:
        (batch, *_), at = self.shape, self.embedding
        self.patches = math.prod(at.grid)
        self.extra, self.channels = at.first.shape
        self.tokens = self.patches + self.extra
        self.rows = batch * self.tokens
        wide = max([3 * self.channels, *(len(block.fc1.weight) for block in self.blocks)])
        if self.tokens > MAX_KEYS or self.rows * wide >= MAX_CODES:
            raise UnsupportedError(f"the engine serves {MAX_KEYS} tokens an image and 2^31 codes an activation at most")
        sums = [at.bits, *(add.bits for block in self.blocks for add in (block.add1, block.add2))]
        if max(sums) > rows.STREAM_BITS or self.channels > rows.MAX_CHANNELS:
            raise UnsupportedError(f"the engine serves residual streams of 24 bits and {rows.MAX_CHANNELS} channels")

        def codes(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int8, device=self.device)

        self.image = codes(batch * self.patches, at.product.weight.shape[1])
        self.stream = torch.zeros(self.rows, self.channels, dtype=torch.int32, device=self.device)
        self.normal, self.mixed = codes(self.rows, self.channels), codes(self.rows, self.channels)
        self.qkv, self.last = codes(self.rows, 3 * self.channels), codes(batch, self.channels)
        self.hidden = [codes(self.rows, len(block.fc1.weight)) for block in self.blocks[:1]] * len(self.blocks)
        for index, block in enumerate(self.blocks):
            if self.hidden[index].shape[1] != len(block.fc1.weight):
                self.hidden[index] = codes(self.rows, len(block.fc1.weight))
        self.logits = torch.zeros(batch, len(self.head.weight), device=self.device)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalized images [B, 3, H, W] to logits [B, classes]; ValueError for a shape that was not compiled."""
        logits: Tensor = self.call(images)
        return logits

    def _run(self, images: Tensor) -> Tensor:
        self._embed(images)
        for block, hidden in zip(self.blocks, self.hidden, strict=True):
            self._normalize(self.stream, self.channels, block.norm1, self.normal)
            self._linear(self.normal, block.qkv, block.qkv_scale, self.qkv)
            self._attend(block)
            self._add(self.mixed, block.proj, block.add1)
            self._normalize(self.stream, self.channels, block.norm2, self.normal)
            self._linear(self.normal, block.fc1, block.fc1_scale, hidden)
            self._gelu(hidden, block.gelu)
            self._add(hidden, block.fc2, block.add2)
        self._normalize(self.stream, self.tokens * self.channels, self.norm, self.last)
        return self._classify()

    def _product(self, kernel: Any, a: Tensor, product: integers.Product, number: integers.Scale, *more: Any) -> None:
        """Launch a kernel of `products` on rows a, with what follows the product's own arguments."""
        count, (out, k) = len(a), product.weight.shape

        def launch(tile: tiles.Tile) -> None:
            depth = min(tile.depth, max(32, triton.next_power_of_2(k)))
            kernel[(triton.cdiv(count, tile.rows) * triton.cdiv(out, tile.columns),)](
                a, k, product.weight, product.bias, number.multiplier, number.shift, number.nearest, number.high, *more,
                count, out, k, tile.rows, tile.columns, depth, num_warps=tile.warps, num_stages=tile.stages,
            )  # fmt: skip

        launch(self.tiles.of((kernel, count, out, k), tiles.products(count, out), launch))

    def _rows(self, kernel: Any, count: int, channels: int, *arguments: Any) -> None:
        def launch(tile: tiles.Tile) -> None:
            kernel[(count,)](*arguments, channels, triton.next_power_of_2(channels), num_warps=tile.warps)

        launch(self.tiles.of((kernel, count, channels), tiles.ROWS, launch))

    def _embed(self, images: Tensor) -> None:
        e, (_, channels, height, width) = self.embedding, self.shape
        block = triton.next_power_of_2(self.image.shape[1])
        rows.patches[(len(self.image),)](images, e.scale, self.image, channels, height, width, *e.grid, *e.patch, block)
        self._product(
            products.embed, self.image, e.product, e.number, e.number.bits, e.left.multiplier, e.left.shift,
            e.left.bits, e.bits, e.positions, self.patches, self.extra, self.stream,
        )  # fmt: skip
        self.stream.view(-1, self.tokens, self.channels)[:, : self.extra] = e.first

    def _linear(self, a: Tensor, product: integers.Product, number: integers.Scale, out: Tensor) -> None:
        self._product(products.linear8, a, product, number, out, out.shape[1])

    def _add(self, a: Tensor, product: integers.Product, add: integers.Sum) -> None:
        self._product(
            products.linear_add, a, product, add.branch, add.branch.bits, add.stream.multiplier, add.stream.shift,
            add.stream.high, add.stream.bits, add.bits, self.stream,
        )  # fmt: skip

    def _normalize(self, stream: Tensor, step: int, norm: integers.Norm, out: Tensor) -> None:
        self._rows(rows.layer_norm, len(out), self.channels, stream, step, *norm, out)

    def _gelu(self, hidden: Tensor, table: Tensor) -> None:
        self._rows(rows.gelu, len(hidden), hidden.shape[1], hidden, table)

    def _attend(self, block: integers.BlockNumbers) -> None:
        heads, soft = block.heads, block.softmax
        d = self.channels // heads
        short = soft.narrow and soft.largest * self.tokens < MAX_CODES
        wide, keys = (max(32, triton.next_power_of_2(size)) for size in (d, self.tokens))

        def launch(tile: tiles.Tile) -> None:
            attention.attention[(self.shape[0] * heads, triton.cdiv(self.tokens, tile.rows))](
                self.qkv, self.tokens, block.qk.multiplier, block.qk.shift, block.qk.high, soft.one, soft.magic,
                soft.table, soft.narrow, short, block.av.multiplier, block.av.shift, block.av.high, block.qk.nearest,
                self.mixed, heads, d, wide, tile.rows, keys, num_warps=tile.warps,
            )  # fmt: skip

        choices = [tile for tile in tiles.ATTENTION if tile.rows * keys <= 16 * MAX_KEYS]
        launch(self.tiles.of((heads, d, soft.narrow, short, block.qk.high, block.av.high), choices, launch))

    def _classify(self) -> Tensor:
        number = self.head_scale
        self._product(products.classify, self.last, self.head, number, number.bits, self.worth, self.logits)
        return self.logits

    def executed(self) -> Executed:
        """Operators by width, of the kernels that a call runs."""
        count = len(self.blocks)
        return {
            "Linear": {"int8": 4 * count + 2},
            "MatMul": {"int8": 2 * count},
            "LayerNorm": {"int32": 2 * count + 1},
            "Softmax": {"int8": count},
            "Gelu": {"int8": count},
            "Add": {"int32": 2 * count + 1},
        }

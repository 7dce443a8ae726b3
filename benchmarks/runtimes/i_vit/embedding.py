"""Image to tokens or to a map: the scale of the image, the patch embedding, and what joins it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vitq.benchmarks.runtimes.i_vit import blocks, parts, regions
from vitq.benchmarks.runtimes.i_vit.pool import Pool
from vitq.benchmarks.runtimes.i_vit.stage import Stage
from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS, ROWS
from vitq.errors import UnsupportedError
from vitq.methods.i_vit.ends import IntegerInput
from vitq.methods.i_vit.forms import RESIDUAL_BITS
from vitq.methods.i_vit.layernorm import IntegerLayerNorm
from vitq.methods.i_vit.linear import IntegerLinear
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.sums import IntegerAddConstant
from vitq.methods.i_vit.tokens import IntegerClassToken


class Embedding:
    """The patch embedding of a batch: of tokens with positions and the tokens that lead, or of a map with a norm."""

    constants = ("int8", "int32", "int64")

    def __init__(self, network: Network, shape: tuple[int, ...], threads: int) -> None:
        if not isinstance(network.input, IntegerInput):
            raise UnsupportedError("the engine serves the integer form of I-ViT: give it a model in integers")
        if any(side % patch for side, patch in zip(shape[2:], network.patch, strict=True)):
            raise UnsupportedError("the engine serves images of whole patches")
        self.network, self.scale, self.patch = network, np.float32(network.input.scale), network.patch
        self.grid = shape[2] // self.patch[0], shape[3] // self.patch[1]
        self.node = blocks.step(network, "projection", IntegerLinear)
        self.product, self.number = parts.product_of(self.node), parts.stream_scale(self.node)
        self.columns, self.patches_each = self.product.columns, self.grid[0] * self.grid[1]
        self.count, self.ldp = shape[0] * self.patches_each, 4 * self.product.steps
        self.patches = parts.aligned((self.count + ROWS) * self.ldp, np.uint8)
        wide = ROWS * (parts.padded(self.columns, COLUMNS) + COLUMNS)
        self.wide = parts.aligned((threads, wide), np.int32)
        self.is_map = network.layout == "map"
        self.extra = 0
        if self.is_map:
            self._norm()
        else:
            self._positions()
        self.each = self.patches_each + self.extra

    def _norm(self) -> None:
        self.normed = "embedding_norm" in self.network.steps
        if "position_add" in self.network.steps:
            raise UnsupportedError("the engine serves maps without absolute positions")
        if self.normed:
            node = blocks.step(self.network, "embedding_norm", IntegerLayerNorm)
            self.norm = blocks.norm(node, RESIDUAL_BITS)
        self.region: Callable[..., Any] = regions.embed_map
        self.operators: Any = (("Linear", "int8"), *((("LayerNorm", "int32"),) if self.normed else ()))

    def _positions(self) -> None:
        """Positions, and the class token with its own, which no image changes: int32 [tokens * C], [extra * C]."""
        add = blocks.step(self.network, "position_add", IntegerAddConstant)
        if "tokens" not in self.network.steps or "embedding_norm" in self.network.steps or add.bits != RESIDUAL_BITS:
            raise UnsupportedError("the engine serves transformers with a class token, and no norm after the embedding")
        self.left, self.top = parts.scale_of(add.left, 1), 2 ** (add.bits - 1) - 1
        self.positions = parts.flat(add.arrange(add.codes, *self.grid).to(torch.int32)).copy()
        tokens = blocks.step(self.network, "tokens", IntegerClassToken)
        self.extra = tokens.token.shape[-2]
        patches = torch.zeros(1, self.patches_each, self.columns, dtype=torch.int32)
        self.first = parts.flat(add(tokens(patches), *self.grid)[0, : self.extra].to(torch.int32)).copy()
        self.region = regions.embed_tokens
        self.operators = (("Linear", "int8"), ("Add", "int32"))

    def quantize(self, images: parts.Array) -> None:
        """Codes of float32 images [B, C, H, W], in patches."""
        regions.quantize_patches(images, self.scale, *self.patch, self.patches, self.ldp)

    def before(self, pool: Pool) -> tuple[Any, ...]:
        """The region's arguments before the constants."""
        if self.is_map:
            parts_of = (self.product, self.number, self.norm) if self.normed else (self.product, self.number)
            return self.patches, self.ldp, self.count, pool.row(parts_of)
        row = pool.row((self.product, self.number, self.left))
        return self.patches, self.ldp, self.count, self.patches_each, self.each, self.extra, row

    def after(self, stage: Stage) -> tuple[Any, ...]:
        """The region's arguments after the constants."""
        if self.is_map:
            return self.normed, 2 ** (RESIDUAL_BITS - 1) - 1, stage.stream, stage.ld, self.wide
        return self.positions, self.top, self.first, stage.stream, stage.ld, self.wide

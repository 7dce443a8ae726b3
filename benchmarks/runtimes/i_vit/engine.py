"""The engine: an integer network compiled for one batch into constants, buffers and a list of parallel regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitq.benchmarks.runtimes.base import Executed
from vitq.benchmarks.runtimes.i_vit import blocks, parts, regions
from vitq.benchmarks.runtimes.i_vit.embedding import Embedding
from vitq.benchmarks.runtimes.i_vit.pool import Pool
from vitq.benchmarks.runtimes.i_vit.stage import Reach, Stage, work_of
from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS, INSTRUCTIONS, ROWS
from vitq.benchmarks.runtimes.numba_threads import use_threads
from vitq.errors import UnsupportedError
from vitq.methods.i_vit.blocks import Block, Merging
from vitq.methods.i_vit.ends import IntegerReals
from vitq.methods.i_vit.layernorm import IntegerLayerNorm
from vitq.methods.i_vit.linear import IntegerLinear
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.pool import IntegerPool

Operators = tuple[tuple[str, str], ...]
"""Operators that a region runs, each with its width."""
Run = Callable[..., Any]
Size = tuple[int, int]
ALL, SIGNED, SCALES = ("int8", "uint8", "int32", "int64"), ("int8", "int32", "int64"), ("int32", "int64")
"""Types of the constants that a region takes."""


class Region(NamedTuple):
    """A call of a parallel region: its function, its arguments, and the operators that it runs."""

    run: Run
    arguments: tuple[Any, ...]
    operators: Operators


LINEAR, MATMUL, NORM = ("Linear", "int8"), ("MatMul", "int8"), ("LayerNorm", "int32")
ADD, GELU = ("Add", "int32"), ("Gelu", "int8")


class Engine:
    """A classifier in integers for batches of one size; `exec` and calls as `Compiled` has them."""

    exec = "integer-only:numba"
    instructions = INSTRUCTIONS

    def __init__(self, network: Network, example: Tensor, threads: int) -> None:
        if not network.classifies or network.levels:
            raise UnsupportedError("the engine serves classifiers, not backbones")
        self.network, self.threads, self.shape = network, threads, tuple(example.shape)
        self.images, self.pool = self.shape[0], Pool()
        self.acc = parts.aligned((threads, ROWS * COLUMNS), np.int32)
        self.works: dict[tuple[int, int, int], parts.Work] = {}
        self.counted: Counter[tuple[str, str]] = Counter()
        self.planned: list[Callable[[], Region]] = []
        self.embedding = Embedding(network, self.shape, threads)
        self._plan_trunk()
        self._plan_ends()
        self.constants = self.pool.arrays()
        self.regions = [made() for made in self.planned]

    def _plan(self, run: Run, operators: Operators, *before: Any, of: tuple[str, ...], after: tuple[Any, ...]) -> None:
        """A region whose arguments are `before`, the constants `of` these types, and `after`."""

        def made() -> Region:
            return Region(run, (*before, *(getattr(self.constants, name) for name in of), *after), operators)

        self.planned.append(made)

    def _plan_trunk(self) -> None:
        e = self.embedding
        found: list[Any] = [self.network.get_submodule(path) for path in self.network.trunk]
        size, at = e.grid, 0
        stage = self._stage(e.each, e.columns, found, 0)
        self._plan(e.region, e.operators, *e.before(self.pool), of=e.constants, after=e.after(stage))
        while at < len(found):
            end = next((i for i in range(at, len(found)) if isinstance(found[i], Merging)), len(found))
            self._plan_blocks(stage, found[at:end], size)
            if end < len(found):
                stage, size = self._plan_merging(stage, size, found, end)
            at = end + 1
        self.last = stage

    def _stage(self, each: int, channels: int, found: list[Any], at: int) -> Stage:
        """Buffers for the blocks from here to the next merging."""
        hidden = [channels]
        for block in found[at:]:
            if isinstance(block, Merging):
                break
            hidden.append(blocks.step(block, "fc1", IntegerLinear).weight.shape[0])
        return Stage(self.images, each, channels, max(hidden), self.threads)

    def _plan_blocks(self, stage: Stage, found: list[Block], size: Size) -> None:
        reaches = [stage.all_tokens() if b.windows is None else stage.in_windows(b.windows, size) for b in found]
        made = [blocks.block_of(b, reach.tokens) for b, reach in zip(found, reaches, strict=True)]
        rows = [self.pool.row(block) for block in made]
        s, acc = stage, self.acc
        if not found:
            return
        into = (s.qkv, s.ldq, s.normal)
        self._plan(
            regions.enter, (NORM, LINEAR), s.stream, s.ld, s.rows, s.chunk, rows[0], of=SIGNED, after=(*into, acc)
        )
        for i, (block, reach) in enumerate(zip(found, reaches, strict=True)):
            self._plan_attention(stage, block, reach, made[i], rows[i])
            last = i + 1 == len(found)
            operators = (LINEAR, ADD, NORM, LINEAR, GELU, LINEAR, ADD) + (() if last else (NORM, LINEAR))
            self._plan(
                regions.between, operators, s.mixed, s.stream, s.ld, s.rows, s.chunk, rows[i],
                rows[i if last else i + 1], last, of=ALL, after=(*into, s.hidden, s.ldh, acc),
            )  # fmt: skip

    def _plan_attention(self, s: Stage, block: Block, reach: Reach, made: parts.Block, row: parts.Array) -> None:
        d, bits = s.channels // block.heads, made.attention.softmax.bits
        work = self.works.setdefault((reach.tokens, d, bits), work_of(self.threads, reach.tokens, d, bits))
        groups = self.images * reach.windows
        tasks = groups * block.heads
        split = 1 if tasks % self.threads == 0 or tasks > 8 * self.threads else self.threads
        if (reach.places == s.beyond).any():
            outside = blocks.step(block, "qkv", IntegerLinear)(torch.zeros(1, s.channels, dtype=torch.int8))
            padding = (outside[0].to(torch.int32) + 128).to(torch.uint8).numpy()
            row_of = s.qkv.reshape(-1, s.ldq)[s.beyond, : 3 * s.channels]
            self._plan(np.copyto, (), row_of, padding, of=(), after=())
        operators: tuple[tuple[str, str], ...] = (
            MATMUL,
            ("Softmax", f"int{bits}"),
            MATMUL if bits == 8 else ("MatMul", "int16"),
        )
        if made.attention.biased:
            operators += (("Add", "int8"),)
        self._plan(
            regions.attention, operators, s.qkv, s.qkv.view(np.uint32), s.ldq, s.rows, groups,
            reach.windows, reach.tokens, block.heads, d, split, reach.places, reach.keep, reach.keep_at, reach.step,
            row, of=SIGNED, after=(s.mixed, s.ld, *work),
        )  # fmt: skip

    def _plan_merging(self, s: Stage, size: Size, found: list[Any], at: int) -> tuple[Stage, Size]:
        """A patch merging; the stage after it and the size of its maps."""
        merging: Merging = found[at]
        index = torch.arange(1, s.each + 1).reshape(1, *size, 1)
        gathered = merging.gather(index)[0]
        new, each = (gathered.shape[0], gathered.shape[1]), gathered.shape[0] * gathered.shape[1]
        image = np.arange(self.images)[:, None] * s.each + gathered.reshape(1, -1).numpy() - 1
        inside = np.broadcast_to(gathered.reshape(1, -1).numpy() > 0, image.shape)
        places = np.where(inside, image, s.beyond).astype(np.int32).reshape(-1)
        norm = blocks.norm(blocks.step(merging, "norm", IntegerLayerNorm))
        layer = blocks.step(merging, "reduction", IntegerLinear)
        product, number = parts.product_of(layer), parts.stream_scale(layer)
        stage = self._stage(each, product.columns, found, at + 1)
        wide = parts.aligned((self.threads, 4 * s.channels), np.int32)
        ldn = parts.padded(4 * s.channels, COLUMNS)
        normal = parts.aligned((self.threads, stage.chunk * ldn), np.uint8)
        self._plan(
            regions.merge, (NORM, LINEAR), s.stream, s.ld, s.channels, places, stage.rows, stage.chunk,
            self.pool.row((norm, product, number)), of=SIGNED,
            after=(stage.stream, stage.ld, wide, normal, ldn, self.acc),
        )  # fmt: skip
        return stage, new

    def _plan_ends(self) -> None:
        s, network = self.last, self.network
        norm = blocks.norm(blocks.step(network, "norm", IntegerLayerNorm))
        head = blocks.step(network, "head", IntegerLinear)
        assert head.out is not None
        assert isinstance(network.output, IntegerReals)
        self.worth: Tensor = network.output.scale
        product = parts.product_of(head)
        self.ldo, self.columns = product.panels * COLUMNS, product.columns
        tall = parts.padded(self.images, ROWS)
        features, self.logits = parts.aligned(tall * s.ld, np.uint8), parts.aligned(tall * self.ldo, np.int32)
        if network.layout == "map":
            pooled = blocks.requantization(blocks.step(network, "pool", IntegerPool).out)
            row = self.pool.row((norm, parts.scale_of(pooled, s.channels)))
            normal, sums = parts.aligned((self.threads, s.ld), np.uint8), parts.aligned((self.threads, s.ld), np.int32)
            self._plan(
                regions.pool_map, (NORM, ("Pool", "int32")), s.stream, s.ld, self.images, s.each, row, of=SCALES,
                after=(normal, sums, features),
            )  # fmt: skip
        else:
            row = self.pool.row(norm)
            self._plan(
                regions.norm_first, (NORM,), s.stream, s.ld, self.images, s.each, row, of=SCALES, after=(features,)
            )
        row = self.pool.row((product, parts.scale_of(head.out, product.columns)))
        after = (self.logits, self.ldo, self.acc)
        self._plan(regions.classify, (LINEAR,), features, s.ld, self.images, row, of=SIGNED, after=after)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalized images [B, 3, H, W] to logits [B, classes]; ValueError for a shape that was not compiled."""
        if tuple(images.shape) != self.shape:
            raise ValueError(f"compiled for images of {list(self.shape)}, not {list(images.shape)}")
        use_threads(self.threads)
        self.counted.clear()
        self.embedding.quantize(images.detach().float().contiguous().numpy())
        for region in self.regions:
            region.run(*region.arguments)
            self.counted.update(region.operators)
        codes = torch.from_numpy(self.logits.reshape(-1, self.ldo)[: self.images, : self.columns])
        return codes * self.worth

    def executed(self) -> Executed:
        """Operators by width of the regions that the last call ran; of a call on zeros where there was none."""
        if not self.counted:
            self(torch.zeros(self.shape))
        found: dict[str, dict[str, int]] = {}
        for (name, width), count in self.counted.items():
            found.setdefault(name, {})[width] = count
        return found

"""The buffers of a stage of one resolution, and what its blocks' attention is over: all tokens, or windows of a map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from vitq.benchmarks.runtimes.i_vit import parts
from vitq.benchmarks.runtimes.i_vit.parts import Array, padded
from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS, ROWS
from vitq.methods.architectures.roles import Windows

CHUNK = 396
"""Most rows that go through a block together: their hidden activations stay in a second cache of 1 MB, and threads wait
for each other less often than with fewer (of 102 to 792 rows, 396 took least on DeiT-S at batch 8)."""


class Reach(NamedTuple):
    """Groups of `tokens` tokens, `windows` of them an image: the row of each token, and which see one another.

    `places` is int32 [groups * tokens], the padding row where there is no token; rows of `keep` (255 or 0) begin at
    `keep_at` [windows] and are `step` apart.
    """

    tokens: int
    windows: int
    places: Array
    keep: Array
    keep_at: Array
    step: int


class Stage:
    """Buffers for `images` maps of `rows` rows each and `channels` channels, of blocks at most `hidden` wide."""

    def __init__(self, images: int, each: int, channels: int, hidden: int, threads: int) -> None:
        self.images, self.each, self.channels, self.rows = images, each, channels, images * each
        self.ld, self.ldq, self.ldh = (padded(x, COLUMNS) for x in (channels, 3 * channels, hidden))
        tall = padded(self.rows, ROWS) + ROWS
        self.beyond = tall - 1
        """The row of a token that is padding: nothing else is written there."""
        rounds = -(-self.rows // (threads * CHUNK))
        self.chunk = padded(-(-self.rows // (threads * rounds)), ROWS)
        self.stream = parts.aligned(tall * self.ld, np.int32)
        self.mixed = parts.aligned(tall * self.ld, np.uint8)
        self.qkv = parts.aligned(tall * self.ldq, np.uint8)
        self.normal = parts.aligned((threads, self.chunk * self.ld), np.uint8)
        self.hidden = parts.aligned((threads, self.chunk * self.ldh), np.uint8)

    def all_tokens(self) -> Reach:
        """Attention over all tokens of an image."""
        keep = np.zeros(padded(self.each, COLUMNS), np.uint8)
        keep[: self.each] = 255
        places = np.arange(self.rows, dtype=np.int32)
        return Reach(self.each, 1, places, keep, np.zeros(1, np.int64), 0)

    def in_windows(self, windows: Windows, size: tuple[int, int]) -> Reach:
        """Attention within the windows of a map of this size."""
        index = torch.arange(1, self.each + 1).reshape(1, *size, 1)
        found: Array = windows.split(index)[..., 0].numpy() - 1
        count, tokens = found.shape
        image = np.where(found < 0, 0, np.arange(self.images)[:, None, None] * self.each) + found
        places = np.where(image < 0, self.beyond, image).astype(np.int32).reshape(-1)
        wide, tall = padded(tokens, COLUMNS), padded(tokens, ROWS)
        apart = windows.apart(*size)
        if apart is None:
            keep = np.zeros(wide, np.uint8)
            keep[:tokens] = 255
            return Reach(tokens, count, places, keep, np.zeros(count, np.int64), 0)
        patterns, which = np.unique(apart.numpy(), axis=0, return_inverse=True)
        keeps = np.zeros((len(patterns), tall, wide), np.uint8)
        keeps[:, :tokens, :tokens] = np.where(patterns, 0, 255)
        return Reach(tokens, count, places, keeps.reshape(-1), which.reshape(-1) * (tall * wide), wide)


def work_of(threads: int, tokens: int, d: int, bits: int) -> parts.Work:
    """What each thread needs for a head of `d` channels over rows of so many tokens."""
    wide, tall, size = padded(tokens, COLUMNS), padded(tokens, ROWS), bits // 8

    def zeros(count: int, kind: type[np.generic]) -> Array:
        return parts.aligned((threads, count), kind)

    keys = zeros(wide * d, np.int8)
    values = zeros(padded(d, COLUMNS) * wide * size, np.int8)
    middle, gathered = zeros(padded(d, COLUMNS), np.uint8), zeros(wide * d + COLUMNS, np.uint8)
    middle[:], gathered[:] = 128, 128
    shares = zeros(ROWS * wide * size, np.uint8)
    return parts.Work(
        keys, keys.view(np.uint32), values, values.view(np.uint32), zeros(wide, np.int32), zeros(COLUMNS, np.int32),
        zeros(ROWS * COLUMNS, np.int32), zeros(ROWS * wide, np.uint8), zeros(wide, np.int32), shares,
        shares.view(np.int16), zeros(wide, np.int64), zeros(ROWS * COLUMNS, np.uint8), zeros(tall * d, np.uint8),
        gathered, middle,
    )  # fmt: skip

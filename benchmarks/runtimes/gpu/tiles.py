"""Shapes of tiles, and which is fastest here: measured once for each shape of product, since every tile is exact."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from torch.cuda import CUDAGraph, Event, current_stream, stream
from triton.runtime.errors import OutOfResources

from vitq.benchmarks.runtimes.gpu.device import aside


class Tile(NamedTuple):
    """Rows, columns and depth of a product's tile, or queries of an attention's; warps, and stages of loads ahead."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


FEW = (Tile(64, 32, 128, 4, 4), Tile(16, 64, 128, 4, 4), Tile(32, 32, 128, 4, 4))
SOME = (Tile(64, 64, 128, 4, 3), Tile(64, 128, 128, 4, 3), Tile(64, 32, 128, 4, 4))
MANY = (Tile(64, 128, 128, 4, 3), Tile(128, 128, 64, 4, 4))
"""Tiles of products with few outputs, more, and many: a tile that is compiled takes a user seconds."""
FILLED, CROWDED = 2**18, 2**21
"""Outputs from which tiles of 64 by 64 occupy half of 132 multiprocessors, and those of 128 by 128 nearly all."""
ATTENTION = (Tile(64, 0, 0, 8, 1), Tile(32, 0, 0, 4, 1), Tile(16, 0, 0, 2, 1))
ROWS = (Tile(1, 0, 0, 1, 1), Tile(1, 0, 0, 2, 1), Tile(1, 0, 0, 4, 1))
LAUNCHES, REPLAYS = 30, 5
"""A tile is measured by a graph of so many launches, replayed so often; the fastest replay counts."""


def products(rows: int, columns: int) -> tuple[Tile, ...]:
    """The tiles worth measuring for a product of so many outputs; the interpreter takes the first."""
    outputs = rows * columns
    if outputs < FILLED:
        return FEW
    return SOME if outputs < CROWDED else MANY


class Tiles:
    """The fastest tile of each key, found when it is first asked for."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.found = device, dict[Hashable, Tile]()

    def of(self, key: Hashable, choices: Sequence[Tile], launch: Callable[[Tile], None]) -> Tile:
        """Of `choices` the one that `launch` takes least time with; the first on the CPU."""
        if key not in self.found:
            self.found[key] = choices[0] if self.device.type == "cpu" else self._fastest(choices, launch)
        return self.found[key]

    def _fastest(self, choices: Sequence[Tile], launch: Callable[[Tile], None]) -> Tile:
        times = {tile: self._time(tile, launch) for tile in choices}
        return min(times, key=lambda tile: times[tile])

    def _time(self, tile: Tile, launch: Callable[[Tile], None]) -> float:
        """Milliseconds; infinite where the GPU has too little shared memory or too few registers."""
        try:
            launch(tile)
        except OutOfResources:
            return float("inf")
        side, many = aside(self.device), CUDAGraph()
        side.wait_stream(current_stream(self.device))
        with stream(side):
            many.capture_begin()
            for _ in range(LAUNCHES):
                launch(tile)
            many.capture_end()
            times = [self._replay(many) for _ in range(REPLAYS)]
        current_stream(self.device).wait_stream(side)
        return min(times) / LAUNCHES

    def _replay(self, many: CUDAGraph) -> float:
        start, end = (Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        many.replay()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

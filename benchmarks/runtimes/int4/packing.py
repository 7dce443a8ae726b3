"""Weights as panels that a tile reads: a byte a code, or two 4-bit codes a byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vitq.benchmarks.runtimes.int4.tile import COLUMNS, GROUP

Array = np.ndarray[Any, Any]


def padded(count: int, to: int) -> int:
    """The next multiple of `to`."""
    return -(-count // to) * to


@dataclass(frozen=True)
class Panels:
    """Codes [columns, k] in panels of 64 columns, see `tile`: int8, flat; what pads them is zero."""

    codes: Array
    columns: int
    k: int
    nibbles: bool

    @property
    def count(self) -> int:
        """Panels."""
        return padded(self.columns, COLUMNS) // COLUMNS

    @property
    def groups(self) -> int:
        """Groups of eight of k."""
        return padded(self.k, GROUP) // GROUP


def panels_of(codes: Array, nibbles: bool) -> Panels:
    """Panels of codes [columns, k]: of -128..127, or of 0..15 where two go into a byte. ValueError for others."""
    low, high = (0, 15) if nibbles else (-128, 127)
    if codes.size and (codes.min() < low or codes.max() > high):
        raise ValueError(f"codes run from {codes.min()} to {codes.max()}, outside {low}..{high}")
    columns, k = codes.shape
    wide = np.zeros((padded(columns, COLUMNS), padded(k, GROUP)), np.uint8)
    wide[:columns, :k] = codes.astype(np.int8).view(np.uint8)
    halves = wide.reshape(-1, COLUMNS, wide.shape[1] // GROUP, 2, 4).transpose(0, 2, 3, 1, 4)
    found = halves[:, :, 0] | (halves[:, :, 1] << 4) if nibbles else halves
    return Panels(np.ascontiguousarray(found).reshape(-1).view(np.int8), columns, k, nibbles)

"""The bit widths of a cell; torch-free, because cells are listed without it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PATTERN = re.compile(r"W(\d+)A(\d+)")


@dataclass(frozen=True, order=True)
class Bits:
    """Weight and activation width in bits; 32 stands for floating point."""

    w: int
    a: int

    def __post_init__(self) -> None:
        for width in (self.w, self.a):
            if not (1 <= width <= 16 or width == 32):
                raise ValueError(f"bit width {width} is not in 1..16 and not 32 (floating point)")

    @classmethod
    def parse(cls, text: str) -> Bits:
        """Read `W4A8` or `FP32`; raises ValueError for anything else."""
        if text == "FP32":
            return cls(32, 32)
        found = _PATTERN.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} is not a bit width: write W4A4, W4A8, ... or FP32")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return "FP32" if (self.w, self.a) == (32, 32) else f"W{self.w}A{self.a}"

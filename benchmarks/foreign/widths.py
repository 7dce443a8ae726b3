"""How wide a foreign model's numbers are, and what the widths of its products are called together.

Codes may be narrower than the type that holds them: four bits in INT8. What is read of a file is a width where
something proves it (a clamp, codes that need the whole type, what vitq wrote), else that of the storage, which is said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from vitq.benchmarks.measure.conventions import Product

STORAGE = "storage"
"""What stands behind a label of which a width is only that of the type."""


class Width(NamedTuple):
    """Bits of a number; `proven` where no narrower one would hold its codes, and not only the type says it."""

    bits: int
    proven: bool = True


FLOAT = Width(32)


class Counted(NamedTuple):
    """A product, and whether the widths of both its operands are proven."""

    product: Product
    proven: bool


def needed(low: float, high: float) -> int:
    """The fewest bits that tell all codes from `low` to `high` apart."""
    return max(1, math.ceil(math.log2(high - low + 1)))


def of_codes(low: float, high: float, stored: int) -> Width:
    """The width of a constant's codes, from `low` to `high` in a type of so many bits: proven if they need them all."""
    return Width(stored, needed(low, high) >= stored)


def label_of(found: Sequence[Counted]) -> str:
    """`W4A8` by most of the MACs with a weight, `FP32` where they are in floating point, `?` where there are none.

    `W8A8 storage` where most of these are of widths that only the types of the file say.
    """
    by: Counter[tuple[float, float]] = Counter()
    unproven: Counter[tuple[float, float]] = Counter()
    for product, proven in found:
        if product.weight:
            by[product.right_bits, product.left_bits] += product.macs
            unproven[product.right_bits, product.left_bits] += 0 if proven else product.macs
    if not by:
        return "?"
    (widths, macs), *_ = by.most_common(1)
    if widths == (32, 32):
        return "FP32"
    said = f"W{widths[0]:g}A{widths[1]:g}"
    return said if 2 * unproven[widths] < macs else f"{said} {STORAGE}"

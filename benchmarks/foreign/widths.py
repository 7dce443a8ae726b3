"""What the widths of a foreign model's products are called together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vitq.benchmarks.measure.conventions import Product


def label_of(products: Sequence[Product]) -> str:
    """`W4A8` by most of the MACs with a weight, `FP32` where they are in floating point, `?` where there are none."""
    by: Counter[tuple[float, float]] = Counter()
    for product in products:
        if product.weight:
            by[product.right_bits, product.left_bits] += product.macs
    if not by:
        return "?"
    (weight, activation), _ = by.most_common(1)[0]
    return "FP32" if weight == activation == 32 else f"W{weight:g}A{activation:g}"

"""One plain schedule for a CPU: products in register tiles, vectorized and parallel, and rows and elements likewise.

TVM without tuning runs a product as three bare loops on one thread. These are the tiles that its tutorials begin with,
chosen by shapes alone; nothing is searched for, and VNNI is not used: integers are multiplied in int32.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, tirx

ROWS, COLUMNS = 8, 32
"""The largest register tile: two vectors of 16 numbers in each of eight rows leave registers for the operands."""


def scheduled(function: Any) -> Any:
    """A function of Relax's legalization and fusion, with its loops tiled, vectorized and made parallel."""
    plan = s_tir.Schedule(function)
    blocks = plan.get_child_blocks(plan.get_sblock("root"))
    for block in blocks:
        if not _reduces(plan, block) and plan.get_consumers(block):
            plan.compute_inline(block)
    left = plan.get_child_blocks(plan.get_sblock("root"))
    products = [block for block in left if plan.get(block).name_hint.startswith("matmul")]
    if len(products) == 1 and len(left) <= 2:
        _tile(plan, products[0], left[-1] if len(left) == 2 else None)
        return plan.mod["main"]
    for block in left:
        _spread(plan, block)
    return plan.mod["main"]


def _reduces(plan: Any, block: Any) -> bool:
    return any(each.iter_type == tirx.IterVar.CommReduce for each in plan.get(block).iter_vars)


def _extent(plan: Any, loop: Any) -> int:
    return int(plan.get(loop).extent)


def _tile(plan: Any, product: Any, consumer: Any | None) -> None:
    """Tiles of rows and columns, summed in registers; what is fused behind the product follows each tile."""
    if consumer is None:
        consumer = plan.cache_write(product, 0, "local")
    *outer, i, j, k = plan.get_loops(product)
    i0, i1 = plan.split(i, [None, _height(_extent(plan, i))])
    j0, j1 = plan.split(j, [None, min(COLUMNS, _extent(plan, j))])
    plan.reorder(*outer, i0, j0, k, i1, j1)
    plan.reverse_compute_at(consumer, j0)
    plan.vectorize(plan.get_loops(consumer)[-1])
    plan.unroll(i1)
    plan.vectorize(j1)
    plan.parallel(plan.fuse(*outer, i0))
    *_, rows, columns = plan.get_loops(plan.decompose_reduction(product, k))  # last: what is left is no whole reduction
    plan.unroll(rows)
    plan.vectorize(columns)


def _height(rows: int) -> int:
    """Rows of a tile: the most that divide them, or the most there is room for."""
    return next((height for height in range(ROWS, 3, -1) if rows % height == 0), min(ROWS, rows))


def _spread(plan: Any, block: Any) -> None:
    """Rows in parallel; the last dimension vectorized, unless it is summed over."""
    loops = plan.get_loops(block)
    reduced = sum(each.iter_type == tirx.IterVar.CommReduce for each in plan.get(block).iter_vars)
    spatial = loops[: len(loops) - reduced]
    if not reduced and _extent(plan, spatial[-1]) > 1:
        *spatial, last = spatial
        _, inner = plan.split(last, [None, min(COLUMNS, _extent(plan, last))])
        plan.vectorize(inner)
    if spatial:
        plan.parallel(plan.fuse(*spatial))

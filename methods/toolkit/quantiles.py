"""Extreme quantiles without sorting: only the tails of a tensor are ever looked at.

A calibration needs quantiles at 0.999 and above (and 0.001 and below) of millions of values. The largest k of n values
lie in the k blocks with the largest maxima, so one pass for block maxima and a selection in k blocks finds them,
exactly: a value outside those blocks is not above its block's maximum, which is not above any of the k chosen ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_BLOCK = 64
"""Values of one row that share a maximum: short rows of another width are reduced ten times slower."""


def rows_of(x: Tensor, axis: int | None) -> Tensor:
    """View x as [rows, n]: one row for the whole tensor, or a row for each channel along `axis`.

    The order within a row is the memory's, so that a transposed tensor need not be copied.
    """
    if axis is not None:
        return x.movedim(axis, -1).flatten(0, -2).t()
    return x.permute(sorted(range(x.ndim), key=x.stride, reverse=True)).reshape(1, -1)


def extremes(x: Tensor, k: int, largest: bool) -> Tensor:
    """The k largest values of each row of x [rows, n], descending, or the k smallest, ascending; [rows, k]."""
    rows, n = x.shape
    if rows == 1 and n >= 4 * _BLOCK * k:
        return _extremes_of_row(x, k, largest)
    size = math.isqrt(n // k)
    if size < 4:
        return x.topk(k, dim=1, largest=largest).values
    whole = n // size * size
    blocks = x[:, :whole].view(rows, whole // size, size)
    bounds = blocks.amax(2) if largest else blocks.amin(2)
    chosen = bounds.topk(k, dim=1, largest=largest, sorted=False).indices
    found = blocks.gather(1, chosen[:, :, None].expand(rows, k, size)).flatten(1)
    return torch.cat([found, x[:, whole:]], dim=1).topk(k, dim=1, largest=largest).values


def _extremes_of_row(x: Tensor, k: int, largest: bool) -> Tensor:
    """As `extremes` for one row, with blocks as wide as reductions are fast; what is below all k maxima goes at once.

    NaN counts as largest, as in `torch.topk`, and is never below anything.
    """
    whole = x.shape[1] // _BLOCK * _BLOCK
    blocks = x[0, :whole].view(-1, _BLOCK)
    bounds, chosen = (blocks.amax(1) if largest else blocks.amin(1)).topk(k, largest=largest)
    found = torch.cat([blocks[chosen].flatten(), x[0, whole:]])
    beyond = found < bounds[-1] if largest else found > bounds[-1]
    return found[~beyond].topk(k, largest=largest).values[None]


def rank(p: float, n: int) -> float:
    """Where quantile p of n sorted values lies, p * (n - 1), with p rounded to float32 as `torch.quantile` does."""
    return torch.tensor(p, dtype=torch.float32).item() * (n - 1)


def tail_quantiles(x: Tensor, fractions: tuple[float, ...], upper: bool) -> Tensor:
    """Quantiles of each row of x [rows, n], linearly interpolated as `torch.quantile` does, [rows, len(fractions)].

    `upper` says which end of the rows the quantiles are near: the cost grows with the distance from it.
    """
    n = x.shape[1]
    ranks = [rank(f, n) for f in fractions]
    if upper:
        ends = extremes(x, n - math.floor(min(ranks)), largest=True)
        pairs = [(n - 1 - math.floor(r), n - 1 - math.ceil(r)) for r in ranks]
    else:
        ends = extremes(x, math.ceil(max(ranks)) + 1, largest=False)
        pairs = [(math.floor(r), math.ceil(r)) for r in ranks]
    weights = [r - math.floor(r) for r in ranks]
    return torch.stack([torch.lerp(ends[:, i], ends[:, j], w) for (i, j), w in zip(pairs, weights, strict=True)], dim=1)

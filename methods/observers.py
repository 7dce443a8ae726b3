"""How a scale and a zero point are found from the tensors a quantizer is shown."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vitq.methods.base import MethodInputError
from vitq.methods.quantiles import rows_of, tail_quantiles
from vitq.methods.quantizers import scalar

PERCENTILES = (0.999, 0.9999, 0.99999)
"""The quantiles that RepQ-ViT's released code searches, in its order."""
CHUNK = 2**18
"""Elements worked on at a time: the intermediate results of a chain of operations stay in the cache."""


def affine_grid(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Asymmetric grid over [low, high]: D = (high-low)/(2^b-1), z = round(-low/D).

    A range of zero width (a constant tensor) gets the smallest positive step instead of a division by zero.
    """
    step = ((high - low) / (2**bits - 1)).clamp_min(torch.finfo(torch.float32).tiny * 2**24)
    return step, torch.round(-low / step)


class MinMax:
    """Running minimum and maximum over all tensors shown; per tensor, or per channel along `axis`."""

    def __init__(self, axis: int | None = None, symmetric: bool = False) -> None:
        self.axis, self.symmetric = axis, symmetric
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    def update(self, x: Tensor) -> None:
        """Widen the range by x."""
        if self.axis is None:
            low, high = torch.aminmax(x)
        else:
            flat = x.movedim(self.axis, 0).flatten(1)
            low, high = flat.amin(1), flat.amax(1)
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)

    def grid(self, bits: int) -> tuple[Tensor, Tensor]:
        """Asymmetric over the plain range, or symmetric with D = 2m/(2^b-1), m = max|x|; forgets the range."""
        if self.low is None or self.high is None:
            raise RuntimeError("a quantizer was asked for its grid before it was shown a tensor")
        low, high = self.low, self.high
        self.low = self.high = None
        if not self.symmetric:
            return affine_grid(low, high, bits)
        bound = torch.maximum(low.abs(), high.abs())
        step, _ = affine_grid(-bound, bound, bits)
        return step, torch.zeros_like(step)


def chunks(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Cut x [rows, n] into pieces of about CHUNK elements along its outermost dimension; (the piece's rows, piece)."""
    by_rows = x.shape[0] > 1 and x.stride(0) > x.stride(1)
    size = max(1, CHUNK // max(1, x.shape[1 if by_rows else 0]))
    for i, part in enumerate(torch.split(x, size, 0 if by_rows else 1)):
        yield (slice(i * size, i * size + part.shape[0]) if by_rows else slice(None)), part


class PercentileMSE:
    """RepQ-ViT's search: for p in 0.999, 0.9999, 0.99999 the asymmetric grid over [quantile(1-p), quantile(p)].

    The grid with the least mean squared error is kept, the first of equals; per tensor, or for each channel along
    `axis` by itself (arXiv 2212.08254, released code).
    """

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self.shown: list[Tensor] = []

    def update(self, x: Tensor) -> None:
        """Keep x (its rows, see `rows_of`) until the grid is asked for."""
        self.shown.append(rows_of(x, self.axis))

    def grid(self, bits: int) -> tuple[Tensor, Tensor]:
        """Scale and zero point, scalars or [channels]; forgets what was shown."""
        if not self.shown:
            raise RuntimeError("a quantizer was asked for its grid before it was shown a tensor")
        x = self.shown[0] if len(self.shown) == 1 else torch.cat(self.shown, dim=1)
        self.shown = []
        high = tail_quantiles(x, PERCENTILES, upper=True)
        low = tail_quantiles(x, tuple(1 - p for p in PERCENTILES), upper=False)
        scale, zero = affine_grid(low, high, bits)
        if not bool(torch.isfinite(scale).all()):
            raise MethodInputError(
                "a tensor to quantize holds NaN or infinity; check the weights and calibration inputs"
            )
        errors = torch.stack([uniform_error(x, scale[:, i], zero[:, i], bits) for i in range(len(PERCENTILES))], dim=1)
        best = errors.argmin(1, keepdim=True)
        scale, zero = scale.gather(1, best).squeeze(1), zero.gather(1, best).squeeze(1)
        return (scale[0], zero[0]) if self.axis is None else (scale, zero)


def uniform_error(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Sum of squared errors of each row of x [rows, n] on its own asymmetric grid (scale and zero [rows]); [rows]."""
    columns = [p[:, None] for p in (scale, -zero, 2**bits - 1 - zero)]
    total = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
    for rows, part in chunks(x):
        d, low, high = (scalar(c[rows]) for c in columns)
        y = (part / d).round_().clamp_(low, high).mul_(d).sub_(part)
        total[rows] += y.square_().sum(1)
    return total

"""Min/max ranges whose clipping is searched for the least squared error, for every width at once."""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.toolkit.observers import affine_grid, exponents

_SAMPLE = 2**16
_TENSOR_RATIOS = tuple(k / 40 for k in range(1, 41))
_CHANNEL_RATIOS = tuple(0.3 + 0.05 * k for k in range(15))


class MSEClip:
    """Uniform asymmetric grids over [r*min, r*max], the ratio r searched for the least ||T - Q_b(T)||^2.

    Per tensor (`axis` None): min and max are exact over all tensors shown, the error is measured on 65,536 values
    drawn from each tensor with a seed of its own (with all values where there are fewer), r in 1/40..1. Per channel
    along `axis`: everything is exact, r in 0.3..1 (a weight's channel has no tail that would ask for less).
    Nothing is forgotten when a grid is asked for: mixed precision asks for several widths.
    """

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self._shown: list[Tensor] = []
        self._found: dict[int, tuple[Tensor, Tensor, float]] = {}
        self._low: Tensor | None = None
        self._high: Tensor | None = None

    def update(self, x: Tensor) -> None:
        """Take note of a tensor."""
        rows = x.reshape(1, -1) if self.axis is None else x.movedim(self.axis, 0).flatten(1)
        low, high = rows.amin(1), rows.amax(1)
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)
        if self.axis is None and rows.shape[1] > _SAMPLE:
            generator = torch.Generator().manual_seed(len(self._shown))
            places = torch.randint(rows.shape[1], (_SAMPLE,), generator=generator)
            rows = rows[:, places.to(x.device)]
        self._shown.append(rows)
        self._found.clear()

    def grid(self, bits: int) -> tuple[Tensor, Tensor]:
        """Scale and zero point: scalars, or [C] per channel; RuntimeError before a tensor was shown."""
        scale, zero, _ = self._search(bits)
        return (scale[0], zero[0]) if self.axis is None else (scale, zero)

    def error(self, bits: int) -> float:
        """||T - Q_b(T)|| / ||T|| with the searched grid; 0 for a tensor of zeros."""
        return self._search(bits)[2]

    def norm(self) -> float:
        """Root mean square of what was shown."""
        values = torch.cat([rows.flatten() for rows in self._shown])
        return float(values.double().square().mean().sqrt())

    def _search(self, bits: int) -> tuple[Tensor, Tensor, float]:
        if bits not in self._found:
            if self._low is None or self._high is None:
                raise RuntimeError("a quantizer was asked for its grid before it was shown a tensor")
            self._found[bits] = _search(torch.cat(self._shown, 1), self._low, self._high, bits, self.axis is None)
        return self._found[bits]


def _search(rows: Tensor, low: Tensor, high: Tensor, bits: int, tensor: bool) -> tuple[Tensor, Tensor, float]:
    """Best grid of each row [C, n] among the ratios, and the relative error over all rows."""
    power = exponents(low, high)
    size = torch.ones_like(low, dtype=torch.float64)
    if power is not None:
        rows, low, high = torch.ldexp(rows, -power[:, None]), torch.ldexp(low, -power), torch.ldexp(high, -power)
        size = torch.exp2(2.0 * power.double())
    best_scale, best_zero = affine_grid(low, high, bits)
    best = torch.full_like(low, torch.inf)
    for ratio in _TENSOR_RATIOS if tensor else _CHANNEL_RATIOS:
        scale, zero = affine_grid(low * ratio, high * ratio, bits)
        quantized = rows / scale[:, None]
        quantized.round_().clamp_(-zero[:, None], 2**bits - 1 - zero[:, None]).mul_(scale[:, None])
        error = quantized.sub_(rows).square_().sum(1)
        better = error < best
        best = torch.where(better, error, best)
        best_scale, best_zero = torch.where(better, scale, best_scale), torch.where(better, zero, best_zero)
    best_scale = best_scale if power is None else torch.ldexp(best_scale, power)
    total = float((rows.double().square().sum(1) * size).sum())
    return best_scale, best_zero, float((best.double() * size).sum() / total) ** 0.5 if total else 0.0

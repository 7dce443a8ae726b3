"""How a scale and a zero point are found from the tensors a quantizer is shown."""

from __future__ import annotations

import torch
from torch import Tensor


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

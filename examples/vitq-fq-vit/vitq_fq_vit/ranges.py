"""How FQ-ViT finds ranges of activations, and the power-of-two factors of a LayerNorm's input.

All are shown every calibration batch; what minimizes an error does so on the last batch alone (released code), which
`LastBatch.keep` announces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.toolkit.nodes import ActivationMinMax
from vitq.methods.toolkit.observers import NothingShownError
from vitq.methods.toolkit.quantiles import rows_of, tail_quantiles

EMA = 0.01
PERCENTILE = 0.99999
SHRINKAGES = 90
FACTORS = (1, 2, 4, 8)
"""2^alpha for alpha in 0..K, K = 3."""


class LastBatch(ActivationMinMax):
    """Ranges over all batches, and the batch that was shown while `keep` was on."""

    keep = False
    shown: Tensor | None = None

    def update(self, x: Tensor) -> None:
        """Widen the range by x."""
        super().update(x)
        self.shown = x if self.keep else None

    def take(self) -> Tensor:
        """The last batch, which is then forgotten; NothingShownError where none was kept."""
        shown, self.shown = self.shown, None
        if shown is None:
            raise NothingShownError
        return shown


class MovingRange(ActivationMinMax):
    """An exponential moving average of the batches' ends, the plain ones or those of a percentile."""

    def __init__(self, percentile: float | None = None) -> None:
        super().__init__()
        self.percentile = percentile

    def update(self, x: Tensor) -> None:
        """low <- low + 0.01 (low of x - low), and so for the high end; the first batch's as they are."""
        low, high = torch.aminmax(x) if self.percentile is None else _percentile_range(x, self.percentile)
        self.low = low if self.low is None else self.low + EMA * (low - self.low)
        self.high = high if self.high is None else self.high + EMA * (high - self.high)


def _percentile_range(x: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
    rows = rows_of(x, None)
    low = tail_quantiles(rows, (1 - percentile,), upper=False)
    return low[0, 0], tail_quantiles(rows, (percentile,), upper=True)[0, 0]


class LeastError(LastBatch):
    """OMSE: of 90 ranges that shrink both ends by 0..89 %, the one of least squared error on the last batch."""

    def grid(self, bits: int) -> tuple[Tensor, Tensor]:
        """Scale and zero point of the best range, the widest of equals."""
        if self.low is None or self.high is None:
            raise NothingShownError
        x, low, high = self.take(), self.low, self.high
        candidates = []
        for i in range(SHRINKAGES):
            self.low, self.high = low * (1 - i / 100), high * (1 - i / 100)
            candidates.append(super().grid(bits))
        errors = torch.stack([squared_error(x, *each, bits).sum() for each in candidates])
        return candidates[int(errors.argmin())]


class PowerOfTwoFactors(LastBatch):
    """One zero point and a base scale a tensor, and a factor 2^alpha a channel (the last dimension).

    With M, m the extremes over all channels and batches: S8 = (M - m)/(2^b - 1), z = clamp(round(-m/S8), 0, 2^b - 1),
    S1 = S8/8. Each channel takes the alpha in 0..3 of least squared error of the last batch on scale S1 2^alpha with
    this z, the lowest of equals.
    """

    def grid(self, bits: int) -> tuple[Tensor, Tensor]:
        """Scales and zero points [C]; the latter are all the same."""
        x = self.take()
        largest, zero = super().grid(bits)
        scales = torch.stack([largest / FACTORS[-1] * factor for factor in FACTORS])
        errors = torch.stack([squared_error(x, scale, zero, bits).flatten(0, -2).sum(0) for scale in scales])
        best = scales[errors.argmin(0)]
        return best, zero.expand_as(best)


def squared_error(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """(x - x_hat)^2 by element in float64, x_hat = (clamp(round(x/s + z), 0, 2^b - 1) - z) s."""
    y = ((x / scale + zero).round_().clamp_(0, 2**bits - 1) - zero) * scale
    return (y - x).square_().double()

"""Drop path (stochastic depth, arXiv 1603.09382): in training a residual branch is left out for some of the images."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Zeroes a branch for each image with probability `rate` and multiplies the rest by 1/keep; in training only."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...], same."""
        if self.rate == 0 or not self.training:
            return x
        keep = 1 - self.rate
        kept = x.new_empty((x.shape[0], *[1] * (x.ndim - 1))).bernoulli_(keep)
        return x * kept.div_(keep)


def depth_rates(rate: float, depth: int) -> list[float]:
    """Rates that rise linearly from 0 in the first block to `rate` in the last (released code)."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]

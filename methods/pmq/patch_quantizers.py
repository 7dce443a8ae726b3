"""Two grids for one activation: which tokens of an image are less important now, and a quantizer that asks it."""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.toolkit.layers import QMatMul
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer
from vitq.methods.toolkit.stored import restore_child

STEPS = 1024
"""A share of tokens is a whole number of these parts."""


class Ranking:
    """Which tokens of each image are less important now; shared by a model's patch-wise quantizers."""

    def __init__(self, share: float, prefix: int, class_token: bool) -> None:
        self.share, self.prefix, self.class_token = share, prefix, class_token
        self.low: Tensor | None = None

    def count(self, tokens: int) -> int:
        """How many of an image's tokens run at the lower width."""
        return int(self.share * (tokens - self.prefix))

    def update(self, attention: Tensor, layout: Tensor | None) -> None:
        """Rank the tokens by attention [B*windows, heads, N, N]; `layout` maps window places to map places."""
        mean = attention.detach().mean(1)
        received = mean[:, 0] if self.class_token else mean.mean(1)
        if layout is not None:
            windows = received.reshape(-1, layout.numel())
            inside = layout >= 0
            received = torch.empty_like(windows[:, inside])
            received[:, layout[inside]] = windows[:, inside]
        received = received.clone()
        received[:, : self.prefix] = torch.inf
        order = received.argsort(dim=1, stable=True)
        self.low = torch.zeros_like(received, dtype=torch.bool)
        self.low.scatter_(1, order[:, : self.count(received.shape[1])], True)


def cheap_share(ranking: Ranking, layout: Tensor | None, tokens: int) -> float:
    """Share of a tensor's token places that run at the lower width, padding of windows included."""
    if layout is None:
        return ranking.count(tokens) / tokens
    padding = layout.numel() - tokens
    return (ranking.count(tokens) + padding) / layout.numel()


class PatchQuantizer(Quantizer):
    """Two uniform grids for one activation; a token's importance says which serves it.

    `axis` is the token dimension of the tensor. `layout` is given where tokens lie in windows; places that hold
    padding run at the lower width.
    """

    def __init__(self, high: UniformQuantizer, low: UniformQuantizer, ranking: Ranking, axis: int,
                 layout: Tensor | None, tokens: int) -> None:  # fmt: skip
        super().__init__(high.bits)
        self.high, self.low, self.ranking, self.axis, self.tokens = high, low, ranking, axis, tokens
        self.layout: Tensor | None
        self.register_buffer("layout", layout, persistent=False)
        self.mode, self.fitted = "on", True

    @property
    def mean_bits(self) -> float:
        """Width averaged over the tokens of an image."""
        cheap = cheap_share(self.ranking, self.layout, self.tokens)
        return cheap * self.low.bits + (1 - cheap) * self.high.bits

    def overhead_bits(self) -> int:
        """Both grids; the layout follows from the architecture and is not stored."""
        return self.high.overhead_bits() + self.low.overhead_bits()

    def require_grid(self) -> None:
        """Both grids must be there."""
        self.high.require_grid()
        self.low.require_grid()

    def form(self) -> list[int]:
        """Both widths, the token dimension, and what decides how many tokens get which."""
        ranked = [self.ranking.prefix, int(self.ranking.class_token), round(self.ranking.share * STEPS)]
        return [self.high.bits, self.low.bits, self.axis, self.tokens, *ranked]

    def stored_state(self) -> dict[str, Tensor]:
        """Both grids."""
        both = {"high": self.high.stored_state(), "low": self.low.stored_state()}
        return {f"{name}.{key}": value for name, grid in both.items() for key, value in grid.items()}

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take both grids, and quantize from now on."""
        restore_child("high", self.high, state)
        restore_child("low", self.low, state)
        self.mode = "on"

    def _mask(self, x: Tensor) -> Tensor:
        low = self.ranking.low
        if low is None:
            raise RuntimeError("a patch-wise quantizer ran before any attention had ranked the patches")
        if self.layout is not None:
            low = low[:, self.layout.clamp_min(0)] | (self.layout < 0)
        tokens = x.shape[self.axis]
        shape = [1] * x.ndim
        shape[0], shape[self.axis] = -1, tokens
        return low.reshape(-1, tokens).view(shape)

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes, each token's in its own grid."""
        return torch.where(self._mask(x), self.low.codes(x), self.high.codes(x))

    def decode(self, codes: Tensor) -> Tensor:
        """The values that codes stand for, while the ranking that made them holds."""
        return torch.where(self._mask(codes), self.low.decode(codes), self.high.decode(codes))

    def fake_quant(self, x: Tensor) -> Tensor:
        """Each token on its own grid."""
        return torch.where(self._mask(x), self.low.fake_quant(x), self.high.fake_quant(x))


class RankingProduct(QMatMul):
    """Attention·V that ranks the patches by the attention it is given, before it quantizes anything."""

    ranking: Ranking
    layout: Tensor | None

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[B*windows, h, N, N] @ [B*windows, h, N, d]."""
        self.ranking.update(left, self.layout)
        return super().forward(left, right)

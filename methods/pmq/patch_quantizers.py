"""Two grids for one activation: which tokens of an image are less important now, and a quantizer that asks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitq.methods.architectures.roles import Windows
from vitq.methods.toolkit.layers import QMatMul
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer
from vitq.methods.toolkit.stored import restore_child

STEPS = 1024
"""A share of tokens is a whole number of these parts."""


Size = tuple[int, int]
"""Height and width of a map of patches."""


@dataclass(frozen=True)
class Places:
    """Where tokens lie in windows: how a block cuts its map, which `mergings` have halved since the patch embedding."""

    windows: Windows
    mergings: int

    def layout(self, patches: Size) -> Tensor:
        """For each place of the windows, [windows*N], the place in the map, -1 for padding; of images of this size."""
        height, width = (-(-side // 2**self.mergings) for side in patches)
        numbers = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, height, width, 1)
        return self.windows.split(numbers).reshape(-1).long() - 1


class Ranking:
    """Which tokens of each image are less important now; shared by a model's patch-wise quantizers.

    `patches` is the size of the patch embedding's map for the images that flow now, which its hook `see` keeps.
    """

    def __init__(self, share: float, prefix: int, class_token: bool) -> None:
        self.share, self.prefix, self.class_token = share, prefix, class_token
        self.low: Tensor | None = None
        self.patches: Size | None = None
        self._layouts: dict[tuple[Places, Size], Tensor] = {}

    def see(self, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG002
        """A forward hook of the patch embedding's convolution, whose output is [B, C, height, width]."""
        self.patches = (output.shape[2], output.shape[3])

    def layout(self, places: Places, device: torch.device) -> Tensor:
        """The layout of windows for the images that flow now; made once a size."""
        if self.patches is None:
            raise RuntimeError("a patch-wise quantizer ran before the patch embedding")
        key = (places, self.patches)
        if key not in self._layouts:
            self._layouts[key] = places.layout(self.patches)
        self._layouts[key] = self._layouts[key].to(device)
        return self._layouts[key]

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


def cheap_share(ranking: Ranking, tokens: int, places: int) -> float:
    """Share of a tensor's token places that run at the lower width; `places` are more than tokens in padded windows."""
    return (ranking.count(tokens) + places - tokens) / places


class PatchQuantizer(Quantizer):
    """Two uniform grids for one activation; a token's importance says which serves it.

    `axis` is the token dimension of the tensor. `windows` is given where tokens lie in windows; places that hold
    padding run at the lower width. The mean width is that of images of `tokens` tokens in `places` places.
    """

    def __init__(self, high: UniformQuantizer, low: UniformQuantizer, ranking: Ranking, axis: int,
                 windows: Places | None, tokens: int, places: int) -> None:  # fmt: skip
        super().__init__(high.bits)
        self.high, self.low, self.ranking, self.axis = high, low, ranking, axis
        self.windows, self.tokens, self.places = windows, tokens, places
        self.mode, self.fitted = "on", True

    @property
    def mean_bits(self) -> float:
        """Width averaged over the tokens of an image."""
        cheap = cheap_share(self.ranking, self.tokens, self.places)
        return cheap * self.low.bits + (1 - cheap) * self.high.bits

    def overhead_bits(self) -> int:
        """Both grids; where tokens lie follows from the architecture and is not stored."""
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
        if self.windows is not None:
            layout = self.ranking.layout(self.windows, low.device)
            low = low[:, layout.clamp_min(0)] | (layout < 0)
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
    windows: Places | None

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[B*windows, h, N, N] @ [B*windows, h, N, d]."""
        layout = None if self.windows is None else self.ranking.layout(self.windows, left.device)
        self.ranking.update(left, layout)
        return super().forward(left, right)

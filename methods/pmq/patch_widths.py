"""Patch-wise activation widths: the less important patches of every image run at the next lower width.

A patch's importance is the attention that the class token pays it, averaged over heads, or the mean attention that it
receives where there is no class token. It is taken from the block's own attention for the operands that come after the
softmax (attention·V, proj, fc1, fc2), and from the block before for those that come before it (qkv, Q·K^T): there is
none yet in the first block of a stage, which keeps its width there. Prefix tokens are always important.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from timm.models.swin_transformer import SwinTransformerBlock, window_partition
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.architectures.explicit import attentions
from vitq.methods.pmq.components import Component, Widths, clip, set_width
from vitq.methods.toolkit.layers import QMatMul, restore_child
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer

_STEPS = 1024


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
        ranked = [self.ranking.prefix, int(self.ranking.class_token), round(self.ranking.share * _STEPS)]
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


class Site(NamedTuple):
    """A component that can run patch-wise, where tokens lie in each of its operands, and its block's layout."""

    component: Component
    axes: tuple[int, ...]
    layout: Tensor | None
    tokens: int


def window_layout(block: Any) -> Tensor:
    """For each place of a SwinTransformerBlock's windows, [windows*N], the place in its feature map, -1 for padding."""
    h, w = block.input_resolution
    (wh, ww), shift = block.window_size, block.shift_size
    places = torch.arange(1, h * w + 1, dtype=torch.float32).view(1, h, w, 1)
    places = torch.roll(places, (-shift[0], -shift[1]), (1, 2))
    places = nn.functional.pad(places, (0, 0, 0, (ww - w % ww) % ww, 0, (wh - h % wh) % wh))
    return window_partition(places, block.window_size).reshape(-1).long() - 1


def sites(model: nn.Module, parts: Sequence[Component]) -> list[Site]:
    """Every component that has a ranking when it runs, in forward order."""
    by_name = {part.name: part for part in parts}
    seen: set[str] = set()
    found = []
    for name in attentions(model):
        block = name.rpartition(".")[0]
        stage = block.rpartition(".")[0]
        for leaf, axes, windowed in _operands(name, block, first=stage not in seen):
            if leaf in by_name:
                found.append(_site(model.get_submodule(block), by_name[leaf], axes, windowed))
        seen.add(stage)
    return found


def _operands(attention: str, block: str, first: bool) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """(component, token dimension of each operand, whether tokens lie in windows) of one block."""
    if not first:
        yield f"{attention}.qkv", (1,), True
        yield f"{attention}.qk", (2, 3), True
    yield f"{attention}.av", (2, 2), True
    yield f"{attention}.proj", (1,), True
    yield f"{block}.mlp.fc1", (1,), False
    yield f"{block}.mlp.fc2", (1,), False


def _site(block: nn.Module, part: Component, axes: tuple[int, ...], windowed: bool) -> Site:
    layout = window_layout(block) if isinstance(block, SwinTransformerBlock) else None
    tokens = 0 if layout is None else int((layout >= 0).sum())
    return Site(part, axes, layout if windowed else None, tokens)


def lower(bits: int, ladder: Sequence[int]) -> int:
    """The next lower candidate width; the lowest stays."""
    return max((b for b in ladder if b < bits), default=bits)


def bitops(parts: Sequence[Component], places: Sequence[Site], widths: Widths, ladder: Sequence[int],
           tokens: int, ranking: Ranking) -> float:  # fmt: skip
    """BitOPs of one image when the ranking's share of tokens runs at the lower width."""
    patchwise = {site.component.name: cheap_share(ranking, site.layout, site.tokens or tokens) for site in places}
    total = 0.0
    for part in parts:
        w, a = widths[part.name]
        mean = float(a)
        if part.name in patchwise:
            cheap = patchwise[part.name]
            mean = cheap * lower(a, ladder) + (1 - cheap) * a
        total += part.macs * mean * (w if part.weights else mean)
    return total


def find_share(parts: Sequence[Component], places: Sequence[Site], widths: Widths, ladder: Sequence[int],
               tokens: int, ranking: Ranking, target: float) -> float:  # fmt: skip
    """The smallest share (in steps of 1/1024) that meets a BitOPs target; MethodInputError where none does."""
    low, high = 0, _STEPS
    ranking.share = 1.0
    least = bitops(parts, places, widths, ladder, tokens, ranking)
    if least > target:
        raise MethodInputError(
            f"patch-wise widths reach {least / 1e9:.3f} GBitOPs at the lowest, {target / 1e9:.3f} were asked for; "
            "lower `patch_saving`"
        )
    while low < high:
        middle = (low + high) // 2
        ranking.share = middle / _STEPS
        fits = bitops(parts, places, widths, ladder, tokens, ranking) <= target
        low, high = (low, middle) if fits else (middle + 1, high)
    return low / _STEPS


def install(model: nn.Module, places: Sequence[Site], ladder: Sequence[int], tokens: int, ranking: Ranking) -> None:
    """Replace the activation quantizers of every site by patch-wise ones, and let attention·V rank the patches."""
    for site in places:
        module = site.component.module
        if isinstance(module, QMatMul):
            left, right = site.component.activations()
            module.left = _patchwise(left, site, 0, ladder, tokens, ranking)
            module.right = _patchwise(right, site, 1, ladder, tokens, ranking)
        else:
            (only,) = site.component.activations()
            module.input_quantizer = _patchwise(only, site, 0, ladder, tokens, ranking)
        if site.component.name.endswith(".av"):
            module.__class__ = RankingProduct
            module.ranking = ranking  # type: ignore[assignment]
            module.register_buffer("layout", site.layout, persistent=False)
    model.to(next(model.parameters()).device)


def _patchwise(high: UniformQuantizer, site: Site, operand: int, ladder: Sequence[int], tokens: int,
               ranking: Ranking) -> Quantizer:  # fmt: skip
    bits = lower(high.bits, ladder)
    if bits == high.bits:
        return high
    low = UniformQuantizer(bits, clip(high))
    if high.fitted:  # not where a saved model is restored, which brings the grids
        set_width(low, bits)
    low.mode = "on"
    return PatchQuantizer(high, low, ranking, site.axes[operand], site.layout, site.tokens or tokens)


def facts(ranking: Ranking, tokens: int) -> dict[str, Any]:
    """What `restore` needs of a model that `install` made patch-wise, JSON-able."""
    return {"share": ranking.share, "prefix": ranking.prefix, "class_token": ranking.class_token, "tokens": tokens}


def restore(model: nn.Module, parts: Sequence[Component], ladder: Sequence[int], known: dict[str, Any]) -> None:
    """Make a model patch-wise as `facts` says, its grids to come; its components have their widths."""
    ranking = Ranking(float(known["share"]), int(known["prefix"]), bool(known["class_token"]))
    install(model, sites(model, parts), ladder, int(known["tokens"]), ranking)

"""Roles: what a method may know of a transformer, as paths of modules in it, and which modules play which role.

A path is that of `nn.Module.named_modules`, relative to the part that was asked about. A method asks `roles_of`,
changes modules by their path, and knows no class, attribute or name of a library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor, nn

from vitq.errors import UnsupportedError
from vitq.methods.architectures.explicit import Family, family_of, make_explicit
from vitq.methods.architectures.unknown import what_it_is_made_of

__all__ = [
    "Attention",
    "Block",
    "Embedding",
    "Ends",
    "Level",
    "Merging",
    "Mlp",
    "NormFeed",
    "Roles",
    "Windows",
    "roles_of",
]


class Windows(Protocol):
    """How a block cuts its feature map into windows and puts it together again; holds no module and no tensor."""

    @property
    def masked(self) -> bool:
        """Whether some tokens of one window are no neighbours in the map: -100 is added to their logits."""

    def apart(self, height: int, width: int) -> Tensor | None:
        """Which tokens are no neighbours, in each window of a map of this size, bool [windows, N, N]; None if none."""

    def split(self, maps: Tensor) -> Tensor:
        """[B, H, W, C] -> [B*windows, N, C], padded with zeros; the windows of an image follow one another."""

    def join(self, windows: Tensor, height: int, width: int) -> Tensor:
        """[B*windows, N, C] -> [B, height, width, C]: the inverse of `split`."""


@dataclass(frozen=True)
class Attention:
    """Multi-head attention: its layers, its two products, and what lies between them.

    `qkv` gives queries, keys and values one after the other, [..., 3*C], each divided into `heads`; Q·K^T is multiplied
    by `scale`. `logits` is what enters the softmax before a relative-position bias (`bias`, added by `bias_add`) joins;
    both are None where there is none. That bias is gathered from the parameter `table`, [offsets, heads], by the buffer
    `index`, [N, N]. Where tokens lie in `windows`, `layout()` gives the place in the feature map of each place of the
    windows, [windows*N], -1 for padding, and `mask()` what is added to the logits of each window of an image,
    [windows, N, N], None where nothing is. `class_tokens` are the first tokens that stand for no patch. `norms` stand
    between its layers and products: of queries, of keys, and before `proj`.
    """

    path: str
    heads: int
    scale: float
    qkv: str
    qk: str
    logits: str
    softmax: str
    av: str
    proj: str
    bias: str | None = None
    bias_add: str | None = None
    table: str | None = None
    index: str | None = None
    windows: Windows | None = None
    layout: Callable[[], Tensor] | None = None
    mask: Callable[[], Tensor | None] | None = None
    class_tokens: int = 0
    norms: tuple[str, ...] = ()

    @property
    def windowed(self) -> bool:
        """Whether attention is within windows of the feature map."""
        return self.layout is not None


@dataclass(frozen=True)
class Mlp:
    """Two linear layers and the activation between them, and where there is one a `norm` before the second.

    A `gated` one multiplies half of what `fc1` gives, activated, by the other half.
    """

    fc1: str
    act: str
    fc2: str
    norm: str | None = None
    gated: bool = False


@dataclass(frozen=True)
class Block:
    """A transformer block: x + attention(norm1(x)), then x + mlp(norm2(x)); `sums` are the two additions.

    `stage` is the path of what holds the blocks of one resolution.
    """

    path: str
    stage: str
    norm1: str
    attention: Attention
    norm2: str
    mlp: Mlp
    sums: tuple[str, str]


@dataclass(frozen=True)
class Merging:
    """Patch merging between two stages, before the block of path `before`: a LayerNorm and the layer that it feeds.

    `gather` lays neighbouring patches side by side, [B, H, W, C] -> [B, H/2, W/2, 4C], for the norm.
    """

    path: str
    norm: str
    reduction: str
    before: str
    gather: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Embedding:
    """From image to tokens: the projection, its norm, the tokens once class tokens have joined, and their positions.

    `class_token` [1, 1, C] and `positions` [1, class tokens + N, C] are the parameters that join there, and
    `further_tokens` those of registers and of distillation. Where images
    may have other sizes, `resize(positions, height, width)` gives the positions of a map of that size. `last_norm`
    stands before the first block.
    """

    projection: str | None = None
    norm: str | None = None
    tokens: str | None = None
    position: str | None = None
    position_add: str | None = None
    class_token: str | None = None
    positions: str | None = None
    further_tokens: tuple[str, ...] = ()
    resize: Callable[[Tensor, int, int], Tensor] | None = None
    last_norm: str | None = None


@dataclass(frozen=True)
class Ends:
    """What follows the blocks: norms, pooling, and the classifier; a backbone may have none of them.

    `pooling` says what becomes of the features before the classifier: `class_token` takes the first token's, `mean` is
    over all positions, any other word is the library's own; None where they stay as they are. `after_pooling` are those
    of the norms that stand after it. `further_heads` are classifiers of other tokens, whose logits are averaged with
    the head's.
    """

    norms: tuple[str, ...] = ()
    pool: str | None = None
    head: str | None = None
    pooling: str | None = None
    after_pooling: tuple[str, ...] = ()
    further_heads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Level:
    """One of a backbone's outputs: the features after the block of path `after`, through a `norm` where there is one.

    They are given as a map [B, C, H, W], without class tokens.
    """

    after: str
    norm: str | None = None


@dataclass(frozen=True)
class NormFeed:
    """A LayerNorm whose output goes to one layer alone, so that a scale and a shift can be moved between them.

    `moved(value)` tells the model what zero at the norm's output, [C], became, where it pads that output with zeros.
    """

    norm: str
    layer: str
    moved: Callable[[Tensor], None] | None = None


@dataclass(frozen=True)
class Roles:
    """The roles of a part's modules, each kind in forward order; `model` is the part itself, made explicit.

    `class_tokens` stand before the patches' tokens; `has_class_token` says that the first of them is one, and no
    register. `whole` is the path of the family's whole transformer in the part, empty where the part is one, None where
    it holds blocks alone. `layout` is what flows between blocks: `tokens` [B, N, C] or a `map` [B, H, W, C]. `levels`
    are the outputs of a backbone that gives several, as a tuple; it has no `ends` then. `beside` names, in words, what
    the transformer computes and no role says: who builds a network from the roles must refuse it.
    """

    family: str
    model: nn.Module
    blocks: tuple[Block, ...]
    norm_feeds: tuple[NormFeed, ...]
    mergings: tuple[Merging, ...] = ()
    embedding: Embedding = field(default_factory=Embedding)
    ends: Ends = field(default_factory=Ends)
    class_tokens: int = 0
    has_class_token: bool = False
    whole: str | None = None
    layout: Literal["tokens", "map"] = "tokens"
    levels: tuple[Level, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """The attention of every block, in forward order."""
        return tuple(block.attention for block in self.blocks)

    @property
    def windowed(self) -> bool:
        """Whether any attention is within windows."""
        return any(attention.windowed for attention in self.attentions)

    def module(self, path: str) -> nn.Module:
        """The module of a path, as it is now."""
        return self.model.get_submodule(path)

    def ordered(self, *paths: str | None) -> list[str]:
        """Those paths that are given, each once, in the order of the module tree."""
        wanted = set(paths)
        return [name for name, _ in self.model.named_modules() if name in wanted]


def roles_of(part: nn.Module) -> Roles:
    """The roles of a transformer's modules; makes the part explicit in place (see `explicit.make_explicit`).

    Raises UnsupportedError, in one line that names the roles that are missing, where no family knows its blocks or a
    block lacks a module of its family's.
    """
    family = family_of(part)
    if family is None:
        raise UnsupportedError(
            f"{type(part).__name__} has no block that an architecture adapter knows{what_it_is_made_of(part)}: the "
            "roles attention (qkv, softmax, proj), MLP (fc1, act, fc2), norms and residual sums are missing; give the "
            "scope of a known backbone, or write an adapter (documentation: adding an adapter)"
        )
    _require_explicit(family, make_explicit(part))
    roles = family.roles(part)
    _require_modules(roles)
    return roles


def _require_explicit(family: Family, part: nn.Module) -> None:
    """UnsupportedError where a block of the family, or all that is in it, is of a class that was not made explicit."""
    forms = tuple(family.explicit.values())
    for path, block in part.named_modules():
        if isinstance(block, family.blocks):
            within = any(hasattr(module, "qk") for module in block.modules())
            missing = [] if within else ["attention (qkv, softmax, proj)"]
            missing += [] if isinstance(block, forms) else ["residual sums"]
            if missing:
                raise _lacks(family.name, path, missing)


def _require_modules(roles: Roles) -> None:
    """UnsupportedError where a block lacks the module of a role."""
    there = {path for path, _ in roles.model.named_modules(remove_duplicate=False)}
    for block in roles.blocks:
        missing = [role for role, path in _modules_of(block) if path not in there]
        if missing:
            raise _lacks(roles.family, block.path, missing)


def _lacks(family: str, path: str, missing: list[str]) -> UnsupportedError:
    return UnsupportedError(
        f"the block {path or 'itself'} has no module for the roles {', '.join(missing)}: {family} serves no block of "
        "this form"
    )


def _modules_of(block: Block) -> list[tuple[str, str]]:
    """Every module that a block must have, as (role, path)."""
    attention, mlp = block.attention, block.mlp
    inner = ("qkv", "qk", "logits", "softmax", "av", "proj", "bias", "bias_add")
    named = [(f"attention {role}", getattr(attention, role)) for role in inner]
    named += [(f"MLP {role}", getattr(mlp, role)) for role in ("fc1", "act", "fc2", "norm")]
    named += [("norm1", block.norm1), ("norm2", block.norm2), *(("residual sum", path) for path in block.sums)]
    return [(role, path) for role, path in named if path is not None]

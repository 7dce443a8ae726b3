"""mmsegmentation's ViT and DeiT: explicit forms of attention, block and embedding, and the roles of their modules.

The library is not imported here: a model of it can only be where it has been imported already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

from vitq.methods.architectures import roles
from vitq.methods.architectures.explicit import Add, MatMul, split_heads

LIBRARY = "mmseg.models.backbones.vit"


class NamedAttention(nn.Module):
    """What mmcv's MultiheadAttention becomes in a block of this ViT, without the residual sum that it adds.

    torch's packed in-projection becomes the linear layer `qkv`, its output projection `proj`, on the same parameters.
    """

    def name_products(self: Any) -> None:
        """Take the layers out of torch's module and add those that name products; nothing where it is done."""
        if "qkv" in self._modules:
            return
        inner = self.attn
        self.heads, self.scale, self.dropped = inner.num_heads, float(inner.head_dim**-0.5), inner.dropout
        self.qkv = nn.Linear(inner.embed_dim, 3 * inner.embed_dim, bias=False, device="meta")
        self.qkv.weight, self.qkv.bias = inner.in_proj_weight, inner.in_proj_bias
        self.proj = nn.Linear(inner.embed_dim, inner.embed_dim, bias=False, device="meta")
        self.proj.weight, self.proj.bias = inner.out_proj.weight, inner.out_proj.bias
        del self.attn
        self.qk, self.av = MatMul(), MatMul()
        self.logits, self.softmax = nn.Identity(), nn.Softmax(dim=-1)
        self.attn_drop = nn.Dropout(self.dropped)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *more: Any) -> None:
        """Take a state_dict under torch's names, too."""
        of_torch = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias"}
        of_torch |= {f"out_proj.{name}": f"proj.{name}" for name in ("weight", "bias")}
        for theirs, ours in of_torch.items():
            if f"{prefix}attn.{theirs}" in state_dict:
                state_dict[f"{prefix}{ours}"] = state_dict.pop(f"{prefix}attn.{theirs}")
        super()._load_from_state_dict(state_dict, prefix, *more)

    def forward(self: Any, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        b, n, _ = x.shape
        q, k, v = split_heads(self.qkv(x), self.heads)
        logits = self.logits(self.qk(q, k.transpose(-2, -1)) * self.scale)
        out = self.av(self.attn_drop(self.softmax(logits)), v)
        y: Tensor = self.dropout_layer(self.proj_drop(self.proj(out.transpose(1, 2).reshape(b, n, -1))))
        return y


class NamedLayer:
    """What mmseg's TransformerEncoderLayer becomes: its residual sums are modules."""

    def name_products(self: Any) -> None:
        """Add the modules that name sums, and make the attention explicit."""
        self.add1, self.add2 = Add(), Add()
        if not isinstance(self.attn, NamedAttention):
            self.attn.__class__ = _attention_class(type(self.attn))
            self.attn.name_products()

    def forward(self: Any, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        x = self.add1(x, self.attn(self.norm1(x)))
        y: Tensor = self.add2(x, self.ffn.dropout_layer(self.ffn.gamma2(self.ffn.layers(self.norm2(x)))))
        return y


class NamedVisionTransformer:
    """What mmseg's VisionTransformer becomes: its embedding steps are modules."""

    def name_products(self: Any) -> None:
        """Add the modules that name the tokens, the positions and their sum."""
        self.tokens, self.position, self.position_add = nn.Identity(), nn.Identity(), Add()

    def _pos_embeding(self: Any, patched_img: Tensor, hw_shape: tuple[int, int], pos_embed: Tensor) -> Tensor:
        """[B, 1+N, C] plus the positions, interpolated where the map of patches has another size."""
        positions = self.position(resize_of(self)(pos_embed, *hw_shape))
        y: Tensor = self.drop_after_pos(self.position_add(self.tokens(patched_img), positions))
        return y


@dataclass(frozen=True)
class Resize:
    """mmseg's interpolation of positions [1, 1+N, C] of a `grid` to a map of another size; holds no module."""

    grid: tuple[int, int]
    mode: str

    def __call__(self, positions: Tensor, height: int, width: int) -> Tensor:
        """[1, 1 + height*width, C]; as they are where the map is the grid."""
        if height * width == self.grid[0] * self.grid[1]:  # mmseg compares numbers of tokens
            return positions
        resize = sys.modules[LIBRARY].VisionTransformer.resize_pos_embed
        resized: Tensor = resize(positions, (height, width), self.grid, self.mode)
        return resized


def resize_of(whole: Any) -> Resize:
    """How a VisionTransformer interpolates its positions."""
    height, width = (side // whole.patch_size for side in whole.img_size)
    return Resize((height, width), whole.interpolate_mode)


@dataclass(frozen=True)
class MmViT:
    """The family; see `explicit.Family`."""

    library: Any
    explicit: Mapping[type[nn.Module], type[nn.Module]]
    blocks: tuple[type[nn.Module], ...]
    name: str = "mm_vit"

    def roles(self, part: nn.Module) -> roles.Roles:
        """The roles of a VisionTransformer, or of what holds one or blocks of one."""
        path, whole = next(
            ((p, m) for p, m in part.named_modules() if isinstance(m, self.library.VisionTransformer)), ("", None)
        )
        at, tokens = (f"{path}." if path else ""), int(getattr(whole, "with_cls_token", False))
        found = tuple(_block(p, m, tokens) for p, m in part.named_modules() if isinstance(m, self.blocks))
        return roles.Roles(
            family=self.name, model=part, blocks=found, norm_feeds=tuple(f for b in found for f in _feeds(b)),
            embedding=_embedding(at, whole), class_tokens=tokens, has_class_token=bool(tokens),
            whole=None if whole is None else path, levels=tuple(_levels(at, whole)), beside=tuple(self._beside(part)),
        )  # fmt: skip

    def _beside(self, part: nn.Module) -> Iterator[str]:
        for path, module in part.named_modules():
            if isinstance(module, self.library.VisionTransformer):
                yield from (f"{what} at {path or 'the top'}" for what, there in _of_whole(module).items() if there)
            elif isinstance(module, self.blocks) and not isinstance(module.ffn.gamma2, nn.Identity):
                yield f"LayerScale at {path}"


def families() -> tuple[MmViT, ...]:
    """The family, where the library has been imported."""
    return (_family(),) if LIBRARY in sys.modules else ()


@cache
def _family() -> MmViT:
    library: Any = sys.modules[LIBRARY]
    named = {"TransformerEncoderLayer": NamedLayer, "VisionTransformer": NamedVisionTransformer}
    explicit = {getattr(library, n): type(f"Explicit{n}", (form, getattr(library, n)), {}) for n, form in named.items()}
    attention = _attention_class(library.MultiheadAttention)
    return MmViT(library, {**explicit, attention: attention}, (library.TransformerEncoderLayer,))


@cache
def _attention_class(library: type[nn.Module]) -> type[nn.Module]:
    return type("ExplicitMultiheadAttention", (NamedAttention, library), {})


def _block(path: str, block: Any, class_tokens: int) -> roles.Block:
    at = f"{path}." if path else ""
    names = ("qkv", "qk", "logits", "softmax", "av", "proj")
    attention = roles.Attention(
        path=f"{at}attn", heads=block.attn.heads, scale=block.attn.scale, class_tokens=class_tokens,
        **{name: f"{at}attn.{name}" for name in names},
    )  # type: ignore[arg-type]  # fmt: skip
    mlp = roles.Mlp(f"{at}ffn.layers.0.0", f"{at}ffn.layers.0.1", f"{at}ffn.layers.1")
    norms = f"{at}{block.norm1_name}", f"{at}{block.norm2_name}"
    sums = (f"{at}add1", f"{at}add2")
    return roles.Block(path, path.rpartition(".")[0], norms[0], attention, norms[1], mlp, sums)


def _feeds(block: roles.Block) -> Iterator[roles.NormFeed]:
    yield roles.NormFeed(block.norm1, block.attention.qkv)
    yield roles.NormFeed(block.norm2, block.mlp.fc1)


def _embedding(at: str, whole: Any) -> roles.Embedding:
    if whole is None:
        return roles.Embedding()
    norm = None if whole.patch_embed.norm is None else f"{at}patch_embed.norm"
    return roles.Embedding(
        f"{at}patch_embed.projection", norm, f"{at}tokens", f"{at}position", f"{at}position_add", f"{at}cls_token",
        f"{at}pos_embed", resize_of(whole),
    )  # fmt: skip


def _levels(at: str, whole: Any) -> Iterator[roles.Level]:
    for i in () if whole is None else whole.out_indices:
        last = whole.final_norm and i == len(whole.layers) - 1
        yield roles.Level(f"{at}layers.{i}", f"{at}{whole.norm1_name}" if last else None)


def _of_whole(whole: Any) -> dict[str, bool]:
    padding = whole.patch_embed.adap_padding
    return {
        "blocks without the class token": not whole.with_cls_token,
        "the class token as an output": whole.output_cls_token,
        "the embedding as an output": whole.out_origin,
        "a norm before the blocks": whole.pre_norm,
        "a patch embedding that pads on every side": padding is not None and padding.padding != "corner",
    }

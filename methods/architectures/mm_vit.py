"""mmsegmentation's ViT and DeiT: explicit forms of attention, block and embedding, and the roles of their modules.

Its attention is torch's own in a wrapper of mmcv, which keeps queries, keys and values as one parameter. The explicit
form holds it as a layer, `qkv`, and reads weights by either name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from vitq.methods.architectures import roles
from vitq.methods.architectures.explicit import Add, MatMul, split_heads
from vitq.methods.architectures.mm_libraries import classes, explicit_form, feed_forward, loaded

MODULES = ("mmseg.models.backbones.vit",)
RENAMED = {
    "attn.in_proj_weight": "qkv.weight",
    "attn.in_proj_bias": "qkv.bias",
    "attn.out_proj.weight": "proj.weight",
    "attn.out_proj.bias": "proj.bias",
}
"""Names of torch's attention to those of the explicit form."""


class AttentionForm(nn.Module):
    """mmcv's MultiheadAttention of a ViT with named products, without its residual sum; scaled after Q·K^T."""

    def name_products(self) -> None:
        """Take torch's attention apart: the layers `qkv` and `proj`, and the products between them."""
        inner: Any = self.attn
        self.heads, self.scale = int(inner.num_heads), float(inner.head_dim**-0.5)
        self.qkv = nn.Linear(inner.embed_dim, 3 * inner.embed_dim, bias=inner.in_proj_bias is not None, device="meta")
        self.qkv.weight, self.qkv.bias = inner.in_proj_weight, inner.in_proj_bias
        self.proj, self.drop_rate = nn.Linear(inner.embed_dim, inner.embed_dim, device="meta"), inner.dropout
        self.proj.weight, self.proj.bias = inner.out_proj.weight, inner.out_proj.bias
        del self.attn
        self.qk, self.av = MatMul(), MatMul()
        self.logits, self.softmax = nn.Identity(), nn.Softmax(dim=-1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *more: Any) -> None:
        """Weights may come under the names of torch's attention."""
        for theirs, ours in RENAMED.items():
            if f"{prefix}{theirs}" in state_dict:
                state_dict[f"{prefix}{ours}"] = state_dict.pop(f"{prefix}{theirs}")
        super()._load_from_state_dict(state_dict, prefix, *more)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        me: Any = self
        b, n, c = x.shape
        q, k, v = split_heads(self.qkv(x), self.heads)
        weights = self.softmax(self.logits(self.qk(q, k.transpose(-2, -1)) * self.scale))
        weights = nn.functional.dropout(weights, self.drop_rate, self.training)
        out = self.av(weights, v).transpose(1, 2).reshape(b, n, c)
        y: Tensor = me.dropout_layer(me.proj_drop(self.proj(out)))
        return y


class LayerForm(nn.Module):
    """mmsegmentation's TransformerEncoderLayer with named residual sums."""

    def name_products(self) -> None:
        """Add the modules that name sums; the attention within becomes explicit with the block."""
        self.add1, self.add2 = Add(), Add()
        attention: Any = self.attn
        if not isinstance(attention, AttentionForm):
            attention.__class__ = explicit_form(AttentionForm, type(attention))
            attention.name_products()

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        me: Any = self
        x = self.add1(x, me.attn(me.norm1(x)))
        y: Tensor = self.add2(x, feed_forward(me.ffn, me.norm2(x)))
        return y


class WholeForm(nn.Module):
    """mmsegmentation's VisionTransformer with named embedding steps; positions are resized to the image."""

    def name_products(self) -> None:
        """Add the modules that name the steps."""
        self.tokens, self.position, self.position_add = nn.Identity(), nn.Identity(), Add()

    def _pos_embeding(self, patched_img: Tensor, hw_shape: tuple[int, int], pos_embed: Tensor) -> Tensor:
        me: Any = self
        positions = Resize.of(self)(pos_embed, *hw_shape)
        y: Tensor = me.drop_after_pos(self.position_add(self.tokens(patched_img), self.position(positions)))
        return y


@dataclass(frozen=True)
class Resize:
    """A model's interpolation of positions, by the library's function; it holds no module, so that copies are small."""

    library: Callable[..., Tensor]
    grid: tuple[int, int]
    mode: str

    @classmethod
    def of(cls, whole: Any) -> Resize:
        """How a VisionTransformer does it."""
        down, along = (side // whole.patch_size for side in whole.img_size)
        return cls(whole.resize_pos_embed, (down, along), whole.interpolate_mode)

    def __call__(self, positions: Tensor, height: int, width: int) -> Tensor:
        """Positions [1, 1 + N, C] of a map of another size, the class token's as it is.

        As in the library, they stay as they are on every map of as many patches, whatever its sides.
        """
        if int(height) * int(width) == self.grid[0] * self.grid[1]:
            return positions
        return self.library(positions, (height, width), self.grid, self.mode)


FORMS: dict[str, type] = {"TransformerEncoderLayer": LayerForm, "VisionTransformer": WholeForm}


class MmViT:
    """The family; see `explicit.Family`."""

    name = "mm_vit"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        """The library's module where it is in use."""
        return loaded(*MODULES)

    @property
    def explicit(self) -> Mapping[type[nn.Module], type[nn.Module]]:
        """Each served class to its explicit form."""
        found = [(served, form) for name, form in FORMS.items() for served in classes(self.modules, name)]
        return {served: explicit_form(form, served) for served, form in found}

    @property
    def blocks(self) -> tuple[type[nn.Module], ...]:
        """The library's block."""
        return classes(self.modules, "TransformerEncoderLayer")

    def roles(self, part: nn.Module) -> roles.Roles:
        """The roles of a VisionTransformer, or of what holds blocks of one."""
        at, whole = _whole(part, classes(self.modules, "VisionTransformer"))
        tokens = int(whole is not None and whole.with_cls_token)
        blocks = tuple(_block(path, m, tokens) for path, m in part.named_modules() if isinstance(m, LayerForm))
        return roles.Roles(
            family=self.name,
            model=part,
            blocks=blocks,
            norm_feeds=tuple(feed for block in blocks for feed in _feeds(block)),
            embedding=roles.Embedding() if whole is None else _embedding(at, whole),
            class_tokens=tokens,
            has_class_token=bool(tokens),
            whole=None if whole is None else at.removesuffix("."),
            levels=() if whole is None else tuple(_levels(at, whole, blocks)),
            beside=() if whole is None else tuple(_beside(whole)),
        )


FAMILY = MmViT()


def _whole(part: nn.Module, served: tuple[type[nn.Module], ...]) -> tuple[str, Any]:
    found = ((f"{name}." if name else "", m) for name, m in part.named_modules() if isinstance(m, served))
    return next(found, ("", None))


def _block(path: str, block: Any, class_tokens: int) -> roles.Block:
    at = f"{path}." if path else ""
    inner = f"{at}attn"
    attention = roles.Attention(
        path=inner, heads=block.attn.heads, scale=block.attn.scale, qkv=f"{inner}.qkv", qk=f"{inner}.qk",
        logits=f"{inner}.logits", softmax=f"{inner}.softmax", av=f"{inner}.av", proj=f"{inner}.proj",
        class_tokens=class_tokens,
    )  # fmt: skip
    mlp = roles.Mlp(f"{at}ffn.layers.0.0", f"{at}ffn.layers.0.1", f"{at}ffn.layers.1")
    first, second = f"{at}{block.norm1_name}", f"{at}{block.norm2_name}"
    return roles.Block(path, path.rpartition(".")[0], first, attention, second, mlp, (f"{at}add1", f"{at}add2"))


def _feeds(block: roles.Block) -> Iterator[roles.NormFeed]:
    yield roles.NormFeed(block.norm1, block.attention.qkv)
    yield roles.NormFeed(block.norm2, block.mlp.fc1)


def _embedding(at: str, whole: Any) -> roles.Embedding:
    norm = None if whole.patch_embed.norm is None else f"{at}patch_embed.norm"
    return roles.Embedding(
        f"{at}patch_embed.projection", norm, f"{at}tokens", f"{at}position", f"{at}position_add", f"{at}cls_token",
        f"{at}pos_embed", resize=Resize.of(whole),
    )  # fmt: skip


def _levels(at: str, whole: Any, blocks: tuple[roles.Block, ...]) -> Iterator[roles.Level]:
    last = len(blocks) - 1
    for i in whole.out_indices:
        yield roles.Level(blocks[i].path, f"{at}{whole.norm1_name}" if whole.final_norm and i == last else None)


def _beside(whole: Any) -> Iterator[str]:
    """What mmsegmentation's ViT may compute that no role says."""
    if not whole.with_cls_token:
        yield "a class token that leaves before the blocks"
    if whole.pre_norm:
        yield "a norm before the blocks"
    if whole.output_cls_token or whole.out_origin:
        yield "an output of the class token, or of the embedding"

"""timm's ViT and DeiT: explicit forms of attention, block and embedding, and the roles of their modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from timm.layers.attention import Attention
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from vitq.methods.architectures import roles
from vitq.methods.architectures.explicit import Add, MatMul, split_heads
from vitq.methods.architectures.timm_vit_options import beside, mlp_role, refuse_unserved


class ExplicitAttention(Attention):
    """timm's Attention with named products; the scale is applied after Q·K^T."""

    def name_products(self) -> None:
        """Add the modules that name products and sums."""
        self.qk, self.av = MatMul(), MatMul()
        self.logits, self.softmax = nn.Identity(), nn.Softmax(dim=-1)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """[B, N, C] -> [B, N, C]; `attn_mask` is added to the logits."""
        if is_causal or self.gate is not None:
            raise ValueError("explicit attention serves neither causal nor gated attention")
        b, n, _ = x.shape
        q, k, v = split_heads(self.qkv(x), self.num_heads)
        q, k = self.q_norm(q), self.k_norm(k)
        logits = self.logits(self.qk(q, k.transpose(-2, -1)) * self.scale)
        if attn_mask is not None:
            logits = logits + attn_mask
        out = self.av(self.attn_drop(self.softmax(logits)), v)
        out = self.norm(out.transpose(1, 2).reshape(b, n, self.attn_dim))
        y: Tensor = self.proj_drop(self.proj(out))
        return y


class ExplicitBlock(Block):
    """timm's ViT block with named residual sums."""

    def name_products(self) -> None:
        """Add the modules that name products and sums."""
        self.add1, self.add2 = Add(), Add()

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        branch = self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal)
        x = self.add1(x, self.drop_path1(self.ls1(branch)))
        y: Tensor = self.add2(x, self.drop_path2(self.ls2(self.mlp(self.norm2(x)))))
        return y


class NamedEmbedding(nn.Module):
    """Named embedding steps, in timm's order, and the mean over patches where the classifier reads it at once.

    The class token joins before positions are added, or after where they have none for it (`no_embed_class`).
    """

    def name_products(self) -> None:
        """Add the modules that name products and sums."""
        me: Any = self
        self.tokens = nn.Identity()
        if me.pos_embed is not None:
            self.position, self.position_add = nn.Identity(), Add()
        if me.global_pool not in ("token", "", "map") and isinstance(me.fc_norm, nn.Identity):
            self.pooled = nn.Identity()

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Patches [B, N, C], or [B, H, W, C] where images may have any size, to tokens [B, class tokens + N, C]."""
        me: Any = self
        size, patches = tuple(x.shape[1:3]), x.reshape(x.shape[0], -1, x.shape[-1])
        if me.pos_embed is None:
            return self._joined(patches)
        positions = self.position(self._positions(size))
        if me.no_embed_class:
            y: Tensor = me.pos_drop(self._joined(self.position_add(patches, positions)))
        else:
            y = me.pos_drop(self.position_add(self._joined(patches), positions))
        return y

    def _joined(self, patches: Tensor) -> Tensor:
        """With the class token and its like before them."""
        given = (getattr(self, name, None) for name in ("cls_token", "dist_token", "reg_token"))
        prefix = [token.expand(len(patches), -1, -1) for token in given if token is not None]
        y: Tensor = self.tokens(torch.cat([*prefix, patches], dim=1) if prefix else patches)
        return y

    def _positions(self, size: tuple[int, ...]) -> Tensor:
        """Positions of a map of this size: the model's own, where it takes images of one size alone."""
        me: Any = self
        positions: Tensor = me.pos_embed
        if not me.dynamic_img_size:
            return positions
        prefix = 0 if me.no_embed_class else me.num_prefix_tokens
        grid: list[int] = list(me.patch_embed.grid_size)
        resampled: Tensor = resample_abs_pos_embed(positions, list(size), grid, num_prefix_tokens=prefix)
        return resampled

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        """Tokens [B, N, C] to features [B, C]."""
        y: Tensor = super().pool(x, pool_type)  # type: ignore[misc]
        return self.pooled(y) if hasattr(self, "pooled") else y


class ExplicitVisionTransformer(NamedEmbedding, VisionTransformer):
    """timm's VisionTransformer with named embedding steps."""


class ExplicitDistilled(NamedEmbedding, VisionTransformerDistilled):
    """timm's distilled DeiT, with a distillation token and its classifier, with named embedding steps."""


class TimmViT:
    """The family; see `explicit.Family`."""

    name = "timm_vit"
    explicit: Mapping[type[nn.Module], type[nn.Module]] = {
        Attention: ExplicitAttention,
        Block: ExplicitBlock,
        VisionTransformer: ExplicitVisionTransformer,
        VisionTransformerDistilled: ExplicitDistilled,
    }
    blocks: tuple[type[nn.Module], ...] = (Block,)

    def roles(self, part: nn.Module) -> roles.Roles:
        """The roles of a VisionTransformer, or of what holds blocks of one."""
        path, whole = _whole(part)
        refuse_unserved(part, whole)
        found = tuple(_blocks(part, int(getattr(whole, "num_prefix_tokens", 0))))
        return roles.Roles(
            family=self.name,
            model=part,
            blocks=found,
            norm_feeds=tuple(feed for block in found for feed in _feeds(block)),
            embedding=roles.Embedding() if whole is None else _embedding(path, whole),
            ends=roles.Ends() if whole is None else _ends(path, whole),
            class_tokens=int(getattr(whole, "num_prefix_tokens", 0)),
            has_class_token=getattr(whole, "cls_token", None) is not None,
            whole=None if whole is None else path.removesuffix("."),
            beside=tuple(beside(part)),
        )


FAMILY = TimmViT()


def _whole(part: nn.Module) -> tuple[str, VisionTransformer | None]:
    found = ((f"{name}." if name else "", m) for name, m in part.named_modules() if isinstance(m, VisionTransformer))
    return next(found, ("", None))


def _blocks(part: nn.Module, class_tokens: int) -> Iterator[roles.Block]:
    for path, block in part.named_modules():
        if isinstance(block, ExplicitBlock):
            at = f"{path}." if path else ""
            yield roles.Block(
                path, path.rpartition(".")[0], f"{at}norm1", _attention(f"{at}attn", block.attn, class_tokens),
                f"{at}norm2", mlp_role(f"{at}mlp", block.mlp), (f"{at}add1", f"{at}add2"),
            )  # fmt: skip


def _attention(path: str, attention: Any, class_tokens: int) -> roles.Attention:
    named = {name: getattr(attention, name, nn.Identity()) for name in ("q_norm", "k_norm", "norm")}
    norms = tuple(f"{path}.{name}" for name, norm in named.items() if not isinstance(norm, nn.Identity))
    return roles.Attention(
        path=path, heads=attention.num_heads, scale=float(attention.scale), qkv=f"{path}.qkv", qk=f"{path}.qk",
        logits=f"{path}.logits", softmax=f"{path}.softmax", av=f"{path}.av", proj=f"{path}.proj",
        class_tokens=class_tokens, norms=norms,
    )  # fmt: skip


def _feeds(block: roles.Block) -> Iterator[roles.NormFeed]:
    yield roles.NormFeed(block.norm1, block.attention.qkv)
    yield roles.NormFeed(block.norm2, block.mlp.fc1)


def _embedding(at: str, whole: VisionTransformer) -> roles.Embedding:
    named = [name for name in ("tokens", "position", "position_add") if hasattr(whole, name)]
    last = None if isinstance(whole.norm_pre, nn.Identity) else f"{at}norm_pre"
    norm = None if isinstance(whole.patch_embed.norm, nn.Identity) else f"{at}patch_embed.norm"
    token = None if whole.cls_token is None else f"{at}cls_token"
    positions = None if whole.pos_embed is None else f"{at}pos_embed"
    further = tuple(f"{at}{name}" for name in ("reg_token", "dist_token") if getattr(whole, name, None) is not None)
    steps: dict[str, Any] = {name: f"{at}{name}" for name in named}
    return roles.Embedding(
        f"{at}patch_embed.proj", norm, **steps, class_token=token, positions=positions, further_tokens=further,
        last_norm=last,
    )  # fmt: skip


def _ends(at: str, whole: VisionTransformer) -> roles.Ends:
    norms = [f"{at}{name}" for name in ("norm", "fc_norm") if not isinstance(getattr(whole, name), nn.Identity)]
    pooling = {"token": "class_token", "avg": "mean", "": None}.get(whole.global_pool, whole.global_pool)
    head = None if isinstance(whole.head, nn.Identity) else f"{at}head"
    pool = f"{at}pooled" if hasattr(whole, "pooled") else None
    beside = getattr(whole, "head_dist", nn.Identity())
    further = () if isinstance(beside, nn.Identity) else (f"{at}head_dist",)
    return roles.Ends(tuple(norms), pool, head, pooling, tuple(n for n in norms if n == f"{at}fc_norm"), further)

"""timm's ViT and DeiT: explicit forms of attention, block and embedding, and the roles of their modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from vitq.methods.architectures import roles
from vitq.methods.architectures.explicit import Add, MatMul, split_heads


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


class ExplicitVisionTransformer(VisionTransformer):
    """timm's VisionTransformer with named embedding steps; the class token joins before positions are added."""

    def name_products(self) -> None:
        """Add the modules that name products and sums."""
        if self.pos_embed is None or self.no_embed_class or self.dynamic_img_size:
            return
        self.tokens, self.position, self.position_add = nn.Identity(), nn.Identity(), Add()

    def _pos_embed(self, x: Tensor) -> Tensor:
        if not hasattr(self, "tokens"):
            return super()._pos_embed(x)
        prefix = [t.expand(x.shape[0], -1, -1) for t in (self.cls_token, self.reg_token) if t is not None]
        x = self.tokens(torch.cat([*prefix, x], dim=1) if prefix else x)
        y: Tensor = self.pos_drop(self.position_add(x, self.position(self.pos_embed)))
        return y


class TimmViT:
    """The family; see `explicit.Family`."""

    name = "timm_vit"
    explicit: Mapping[type[nn.Module], type[nn.Module]] = {
        Attention: ExplicitAttention,
        Block: ExplicitBlock,
        VisionTransformer: ExplicitVisionTransformer,
    }
    blocks: tuple[type[nn.Module], ...] = (Block,)

    def roles(self, part: nn.Module) -> roles.Roles:
        """The roles of a VisionTransformer, or of what holds blocks of one."""
        path, whole = _whole(part)
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
            beside=tuple(_beside(part)),
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
                f"{at}norm2", roles.Mlp(f"{at}mlp.fc1", f"{at}mlp.act", f"{at}mlp.fc2"), (f"{at}add1", f"{at}add2"),
            )  # fmt: skip


def _attention(path: str, attention: Any, class_tokens: int) -> roles.Attention:
    return roles.Attention(
        path=path, heads=attention.num_heads, scale=float(attention.scale), qkv=f"{path}.qkv", qk=f"{path}.qk",
        logits=f"{path}.logits", softmax=f"{path}.softmax", av=f"{path}.av", proj=f"{path}.proj",
        class_tokens=class_tokens,
    )  # fmt: skip


def _feeds(block: roles.Block) -> Iterator[roles.NormFeed]:
    yield roles.NormFeed(block.norm1, block.attention.qkv)
    yield roles.NormFeed(block.norm2, block.mlp.fc1)


def _embedding(at: str, whole: VisionTransformer) -> roles.Embedding:
    named = ("tokens", "position", "position_add") if hasattr(whole, "tokens") else ()
    norm = None if isinstance(whole.patch_embed.norm, nn.Identity) else f"{at}patch_embed.norm"
    token = None if whole.cls_token is None else f"{at}cls_token"
    positions = None if whole.pos_embed is None else f"{at}pos_embed"
    further = tuple(f"{at}{name}" for name in ("reg_token", "dist_token") if getattr(whole, name, None) is not None)
    steps: dict[str, Any] = {name: f"{at}{name}" for name in named}
    return roles.Embedding(
        f"{at}patch_embed.proj", norm, **steps, class_token=token, positions=positions, further_tokens=further
    )


def _ends(at: str, whole: VisionTransformer) -> roles.Ends:
    norms = [f"{at}{name}" for name in ("norm", "fc_norm") if not isinstance(getattr(whole, name), nn.Identity)]
    pooling = {"token": "class_token", "avg": "mean", "": None}.get(whole.global_pool, whole.global_pool)
    head = None if isinstance(whole.head, nn.Identity) else f"{at}head"
    return roles.Ends(tuple(norms), None, head, pooling, tuple(n for n in norms if n == f"{at}fc_norm"))


def _beside(part: nn.Module) -> Iterator[str]:
    """What timm's ViT may compute that no role says."""
    for path, module in part.named_modules():
        where = f" at {path}" if path else ""
        if isinstance(module, VisionTransformer):
            yield from (f"{what}{where}" for what, found in _of_whole(module).items() if found)
        elif isinstance(module, Block):
            yield from (f"{what}{where}" for what, found in _of_block(module).items() if found)


def _of_whole(whole: Any) -> dict[str, bool]:
    return {
        "register tokens": whole.reg_token is not None,
        "no position embedding, or one without the class token": not hasattr(whole, "tokens"),
        "a norm before the blocks": not isinstance(whole.norm_pre, nn.Identity),
        "attention pooling": whole.attn_pool is not None,
    }


def _of_block(block: Any) -> dict[str, bool]:
    attention, identity = block.attn, nn.Identity
    norms = (attention.q_norm, attention.k_norm, attention.norm)
    return {
        "LayerScale": not (isinstance(block.ls1, identity) and isinstance(block.ls2, identity)),
        "gated attention": attention.gate is not None,
        "norms within attention": not all(isinstance(norm, identity) for norm in norms),
        "a norm within the MLP": not isinstance(getattr(block.mlp, "norm", identity()), identity),
    }

"""Attention, residual sums and embeddings of timm's transformers as modules that can be replaced and observed.

timm computes attention with a fused kernel and adds residuals with `+`. Here every product and every sum becomes a
module with a name, so that a method can quantize its operands and accounting can count it. A module is made explicit
by changing its class in place: parameters, buffers and their names stay as they are, and so does the function.

An adapter is registered by the class it serves; an mmdet or mmseg attention is one more entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers.attention import Attention
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention, window_partition, window_reverse
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn


class MatMul(nn.Module):
    """The product of two activations, `left @ right`; a name in the module tree for it."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[..., n, k] @ [..., k, m] -> [..., n, m]."""
        return left @ right


class Add(nn.Module):
    """The sum of two activations; a name in the module tree for it."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Broadcasting sum."""
        return left + right


_ADAPTERS: dict[type[nn.Module], type[nn.Module]] = {}


def adapter(served: type[nn.Module]) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Class decorator: register the explicit form of `served`, a subclass of it with an `_explicit()` initializer."""

    def register(cls: type[nn.Module]) -> type[nn.Module]:
        _ADAPTERS[served] = cls
        return cls

    return register


def make_explicit(model: nn.Module) -> nn.Module:
    """Give every served module of `model` its explicit form, in place; doing it twice changes nothing.

    Modules added per attention: `qk` and `av` (MatMul), `softmax`, `logits` (Identity on what enters the softmax) and,
    in Swin, `bias` (Identity on the gathered relative-position bias) and `bias_add` (Add). Per block: `add1`, `add2`.
    Per VisionTransformer: `tokens` (Identity after the class token joins), `position` (Identity on the position
    embedding) and `position_add` (Add).
    """
    for module in list(model.modules()):
        explicit = _ADAPTERS.get(type(module))
        if explicit is not None:
            module.__class__ = explicit
            module._explicit()  # type: ignore[operator]
    return model


def attentions(model: nn.Module) -> dict[str, nn.Module]:
    """The explicit attention modules of a model by name, in forward order."""
    return {name: m for name, m in model.named_modules() if isinstance(m, (ExplicitAttention, ExplicitWindowAttention))}


def _heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B, N, 3*C] -> q, k and v, each [B, heads, N, C/heads]; contiguous, so that products copy nothing."""
    b, n, _ = qkv.shape
    q, k, v = qkv.reshape(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4).contiguous().unbind(0)
    return q, k, v


@adapter(Attention)
class ExplicitAttention(Attention):
    """timm's Attention with named products; the scale is applied after Q·K^T."""

    def _explicit(self) -> None:
        self.qk, self.av = MatMul(), MatMul()
        self.logits, self.softmax = nn.Identity(), nn.Softmax(dim=-1)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """[B, N, C] -> [B, N, C]; `attn_mask` is added to the logits."""
        if is_causal or self.gate is not None:
            raise ValueError("explicit attention serves neither causal nor gated attention")
        b, n, _ = x.shape
        q, k, v = _heads(self.qkv(x), self.num_heads)
        q, k = self.q_norm(q), self.k_norm(k)
        logits = self.logits(self.qk(q, k.transpose(-2, -1)) * self.scale)
        if attn_mask is not None:
            logits = logits + attn_mask
        out = self.av(self.attn_drop(self.softmax(logits)), v)
        out = self.norm(out.transpose(1, 2).reshape(b, n, self.attn_dim))
        y: Tensor = self.proj_drop(self.proj(out))
        return y


@adapter(WindowAttention)
class ExplicitWindowAttention(WindowAttention):
    """timm's Swin WindowAttention with named products and sums; q is scaled before Q·K^T."""

    def _explicit(self) -> None:
        self.qk, self.av, self.bias_add = MatMul(), MatMul(), Add()
        self.bias, self.logits = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[windows*B, N, C] -> [windows*B, N, C]; `mask` [windows, N, N] is 0 or -100."""
        b, n, _ = x.shape
        q, k, v = _heads(self.qkv(x), self.num_heads)
        logits = self.logits(self.qk(q * self.scale, k.transpose(-2, -1)))
        logits = self.bias_add(logits, self.bias(self._get_rel_pos_bias()))
        if mask is not None:
            windows = mask.shape[0]
            logits = (logits.view(-1, windows, self.num_heads, n, n) + mask[None, :, None]).view(b, -1, n, n)
        out = self.av(self.attn_drop(self.softmax(logits)), v)
        y: Tensor = self.proj_drop(self.proj(out.transpose(1, 2).reshape(b, n, -1)))
        return y


@adapter(Block)
class ExplicitBlock(Block):
    """timm's ViT block with named residual sums."""

    def _explicit(self) -> None:
        self.add1, self.add2 = Add(), Add()

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        branch = self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal)
        x = self.add1(x, self.drop_path1(self.ls1(branch)))
        y: Tensor = self.add2(x, self.drop_path2(self.ls2(self.mlp(self.norm2(x)))))
        return y


@adapter(SwinTransformerBlock)
class ExplicitSwinBlock(SwinTransformerBlock):
    """timm's Swin block with named residual sums, and a pad value that a reparameterized norm1 can shift.

    Where the feature map is no multiple of the window, timm pads norm1's output with zeros. A method that rewrites
    norm1 as X -> (X + shift) / r sets `pad_value` [C] to shift / r, what zero maps to, and the function is unchanged.
    """

    pad_value: Tensor | None

    def _explicit(self) -> None:
        self.add1, self.add2 = Add(), Add()
        self.register_buffer("pad_value", None)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *more: Any) -> None:
        """A state_dict says by a `pad_value` that norm1 was rewritten, by none that it was not."""
        given = state_dict.get(f"{prefix}pad_value")
        self.pad_value = None if given is None else given.new_empty(given.shape, device=next(self.parameters()).device)
        super()._load_from_state_dict(state_dict, prefix, *more)

    def _attn(self, x: Tensor) -> Tensor:
        _, h, w, c = x.shape
        (wh, ww), shift = self.window_size, self.shift_size
        if any(shift):
            x = torch.roll(x, shifts=(-shift[0], -shift[1]), dims=(1, 2))
        x = self._pad(x, (wh - h % wh) % wh, (ww - w % ww) % ww)
        hp, wp = x.shape[1:3]
        windows = window_partition(x, self.window_size).view(-1, self.window_area, c)
        mask = self.get_attn_mask(x) if self.dynamic_mask else self.attn_mask
        windows = self.attn(windows, mask=mask).view(-1, wh, ww, c)
        x = window_reverse(windows, self.window_size, hp, wp)[:, :h, :w].contiguous()
        return torch.roll(x, shifts=shift, dims=(1, 2)) if any(shift) else x

    def _pad(self, x: Tensor, bottom: int, right: int) -> Tensor:
        padded = nn.functional.pad(x, (0, 0, 0, right, 0, bottom))
        if self.pad_value is not None and (bottom or right):
            h, w = x.shape[1:3]
            padded[:, h:] = self.pad_value
            padded[:, :, w:] = self.pad_value
        return padded

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        b, h, w, c = x.shape
        x = self.add1(x, self.drop_path1(self._attn(self.norm1(x)))).reshape(b, -1, c)
        y: Tensor = self.add2(x, self.drop_path2(self.mlp(self.norm2(x)))).reshape(b, h, w, c)
        return y


@adapter(VisionTransformer)
class ExplicitVisionTransformer(VisionTransformer):
    """timm's VisionTransformer with named embedding steps; the class token joins before positions are added."""

    def _explicit(self) -> None:
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

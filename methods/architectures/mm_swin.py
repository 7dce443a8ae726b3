"""mmdet's and mmsegmentation's Swin: explicit forms of window attention and block, and the roles of their modules.

Unlike timm's, these take images of any size: feature maps are padded to a multiple of the window and then rolled, and
masks are made anew for each size. What depends on the size (`layout`, `mask`) is that of the last forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
from timm.models.swin_transformer import window_partition, window_reverse
from torch import Tensor, nn

from vitq.errors import UnsupportedError
from vitq.methods.architectures import roles
from vitq.methods.architectures.explicit import Add, MatMul, split_heads
from vitq.methods.architectures.mm_libraries import classes, explicit_form, feed_forward, loaded
from vitq.methods.architectures.timm_swin import ShiftedWindows

MODULES = ("mmdet.models.backbones.swin", "mmseg.models.backbones.swin")


@dataclass(frozen=True)
class PaddedWindows(ShiftedWindows):
    """mm's windows of `size`: the feature map is padded at its end, then rolled by `shift`; see `roles.Windows`."""

    def split(self, maps: Tensor) -> Tensor:
        """[B, H, W, C] -> [B*windows, N, C]."""
        (below, right), (wh, ww) = self._padding(*maps.shape[1:3]), self.size
        padded = nn.functional.pad(maps, (0, 0, 0, right, 0, below))
        return self.cut(padded).reshape(-1, wh * ww, maps.shape[3])

    def cut(self, padded: Tensor) -> Tensor:
        """Windows [B*windows, wh, ww, C] of a map that has been padded."""
        rolled = torch.roll(padded, (-self.shift[0], -self.shift[1]), (1, 2)) if self.masked else padded
        return window_partition(rolled, self.size)

    def join(self, windows: Tensor, height: int, width: int) -> Tensor:
        """[B*windows, N, C] -> [B, height, width, C]."""
        (below, right), (wh, ww) = self._padding(height, width), self.size
        cut = windows.reshape(-1, wh, ww, windows.shape[-1])
        maps = window_reverse(cut, self.size, height + below, width + right)
        maps = torch.roll(maps, self.shift, (1, 2)) if self.masked else maps
        return maps[:, :height, :width].contiguous()


class WindowForm(nn.Module):
    """mm's WindowMSA with named products and sums; q is scaled before Q·K^T."""

    def name_products(self) -> None:
        """Add the modules that name products and sums."""
        self.qk, self.av, self.bias_add = MatMul(), MatMul(), Add()
        self.bias, self.logits = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[windows*B, N, C] -> [windows*B, N, C]; `mask` [windows, N, N] is 0 or -100."""
        me: Any = self
        b, n, _ = x.shape
        q, k, v = split_heads(me.qkv(x), me.num_heads)
        logits = self.logits(self.qk(q * me.scale, k.transpose(-2, -1)))
        gathered = me.relative_position_bias_table[me.relative_position_index.view(-1)]
        logits = self.bias_add(logits, self.bias(gathered.view(n, n, -1).permute(2, 0, 1).contiguous().unsqueeze(0)))
        if mask is not None:
            logits = (logits.view(-1, len(mask), me.num_heads, n, n) + mask[None, :, None]).view(b, -1, n, n)
        out = self.av(me.attn_drop(me.softmax(logits)), v)
        y: Tensor = me.proj_drop(me.proj(out.transpose(1, 2).reshape(b, n, -1)))
        return y


class ShiftForm(nn.Module):
    """mm's ShiftWindowMSA with a pad value that a reparameterized norm1 can shift, and the size that it saw last.

    mm pads norm1's output with zeros. A method that rewrites norm1 as X -> (X + shift) / r sets `pad_value` [C] to
    shift / r, what zero maps to, and the function is unchanged.
    """

    pad_value: Tensor | None

    def name_products(self) -> None:
        """Add what the form needs; there are no products."""
        self.register_buffer("pad_value", None)
        self.seen: tuple[int, int] | None = None

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *more: Any) -> None:
        """A state_dict says by a `pad_value` that norm1 was rewritten, by none that it was not."""
        given = state_dict.get(f"{prefix}pad_value")
        self.pad_value = None if given is None else given.new_empty(given.shape, device=next(self.parameters()).device)
        super()._load_from_state_dict(state_dict, prefix, *more)

    @property
    def windows(self) -> PaddedWindows:
        """How feature maps are cut."""
        me: Any = self
        return PaddedWindows((me.window_size, me.window_size), (me.shift_size, me.shift_size))

    def forward(self, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Tokens [B, H*W, C] of a map of `hw_shape` (H, W) -> [B, H*W, C]."""
        me: Any = self
        b, length, c = query.shape
        self.seen = h, w = int(hw_shape[0]), int(hw_shape[1])
        windows = self.windows.cut(self._pad(query.view(b, h, w, c))).reshape(-1, me.window_size**2, c)
        joined = self.windows.join(me.w_msa(windows, mask=self.mask(windows)), h, w)
        y: Tensor = me.drop(joined.view(b, length, c))
        return y

    def _pad(self, maps: Tensor) -> Tensor:
        h, w = maps.shape[1:3]
        below, right = self.windows._padding(h, w)
        padded = nn.functional.pad(maps, (0, 0, 0, right, 0, below))
        if self.pad_value is not None and (below or right):
            padded[:, h:] = self.pad_value
            padded[:, :, w:] = self.pad_value
        return padded

    def mask(self, like: Tensor) -> Tensor | None:
        """What is added to the logits of each window of the map seen last, [windows, N, N]; None without a shift."""
        apart = self.windows.apart(*self.size())
        return None if apart is None else apart.to(like.device).to(like.dtype) * -100.0

    def layout(self) -> Tensor:
        """For each place of the windows of the map seen last, [windows*N], its place in the map, -1 for padding."""
        h, w = self.size()
        numbers = torch.arange(1, h * w + 1, dtype=torch.float32).view(1, h, w, 1)
        return self.windows.split(numbers).reshape(-1).long() - 1

    def size(self) -> tuple[int, int]:
        """The size of the map seen last; UnsupportedError before the first forward pass."""
        if self.seen is None:
            raise UnsupportedError("windows of this Swin depend on the image's size: run a forward pass first")
        return self.seen


class BlockForm(nn.Module):
    """mm's SwinBlock with named residual sums."""

    def name_products(self) -> None:
        """Add the modules that name sums."""
        self.add1, self.add2 = Add(), Add()

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Tokens [B, H*W, C] of a map of `hw_shape` -> [B, H*W, C]."""
        me: Any = self
        x = self.add1(x, me.attn(me.norm1(x), hw_shape))
        y: Tensor = self.add2(x, feed_forward(me.ffn, me.norm2(x)))
        return y


FORMS: dict[str, type] = {"WindowMSA": WindowForm, "ShiftWindowMSA": ShiftForm, "SwinBlock": BlockForm}


class MmSwin:
    """The family; see `explicit.Family`."""

    name = "mm_swin"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        """The libraries' modules that are in use."""
        return loaded(*MODULES)

    @property
    def explicit(self) -> Mapping[type[nn.Module], type[nn.Module]]:
        """Each served class of either library to its explicit form."""
        found = [(served, form) for name, form in FORMS.items() for served in classes(self.modules, name)]
        return {served: explicit_form(form, served) for served, form in found}

    @property
    def blocks(self) -> tuple[type[nn.Module], ...]:
        """Both libraries' blocks."""
        return classes(self.modules, "SwinBlock")

    def roles(self, part: nn.Module) -> roles.Roles:
        """The roles of a SwinTransformer, or of what holds blocks of one."""
        at, whole = _whole(part, classes(self.modules, "SwinTransformer"))
        blocks = tuple(_block(path, block) for path, block in part.named_modules() if isinstance(block, BlockForm))
        return roles.Roles(
            family=self.name,
            model=part,
            blocks=blocks,
            norm_feeds=tuple(_feeds(part)),
            mergings=tuple(_mergings(part, blocks)),
            embedding=roles.Embedding() if whole is None else _embedding(at, whole),
            whole=None if whole is None else at.removesuffix("."),
            layout="map",
            levels=() if whole is None else tuple(_levels(at, whole, blocks)),
            beside=tuple(_beside(at, whole)) if whole is not None else (),
        )


FAMILY = MmSwin()


def gather_patches(maps: Tensor) -> Tensor:
    """mm's patch merging before its norm: [B, H, W, C] -> [B, H/2, W/2, 4C], the four of a channel side by side."""
    padded = nn.functional.pad(maps, (0, 0, 0, maps.shape[2] % 2, 0, maps.shape[1] % 2))
    b, h, w, c = padded.shape
    return padded.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 5, 2, 4).flatten(3)


def _whole(part: nn.Module, served: tuple[type[nn.Module], ...]) -> tuple[str, Any]:
    found = ((f"{name}." if name else "", m) for name, m in part.named_modules() if isinstance(m, served))
    return next(found, ("", None))


def _block(path: str, block: Any) -> roles.Block:
    at = f"{path}." if path else ""
    shifted = block.attn
    inner = f"{at}attn.w_msa"
    attention = roles.Attention(
        path=inner, heads=shifted.w_msa.num_heads, scale=float(shifted.w_msa.scale), qkv=f"{inner}.qkv",
        qk=f"{inner}.qk", logits=f"{inner}.logits", softmax=f"{inner}.softmax", av=f"{inner}.av", proj=f"{inner}.proj",
        bias=f"{inner}.bias", bias_add=f"{inner}.bias_add", table=f"{inner}.relative_position_bias_table",
        index=f"{inner}.relative_position_index", windows=shifted.windows, layout=shifted.layout,
        mask=partial(_mask, shifted),
    )  # fmt: skip
    mlp = roles.Mlp(f"{at}ffn.layers.0.0", f"{at}ffn.layers.0.1", f"{at}ffn.layers.1")
    stage = path.rpartition(".blocks")[0]
    return roles.Block(path, stage, f"{at}norm1", attention, f"{at}norm2", mlp, (f"{at}add1", f"{at}add2"))


def _mask(shifted: Any) -> Tensor | None:
    mask: Tensor | None = shifted.mask(next(shifted.parameters()))
    return mask


def _feeds(part: nn.Module) -> Iterator[roles.NormFeed]:
    """In the order of the module tree: a stage's merging stands after its blocks."""
    for path, module in part.named_modules():
        at = f"{path}." if path else ""
        if isinstance(module, BlockForm):
            moved = partial(setattr, module.attn, "pad_value")
            yield roles.NormFeed(f"{at}norm1", f"{at}attn.w_msa.qkv", moved)
            yield roles.NormFeed(f"{at}norm2", f"{at}ffn.layers.0.0")
        elif _merges(module):
            yield roles.NormFeed(f"{at}norm", f"{at}reduction")


def _merges(module: nn.Module) -> bool:
    return type(module).__name__ == "PatchMerging" and getattr(module, "norm", None) is not None


def _mergings(part: nn.Module, blocks: tuple[roles.Block, ...]) -> Iterator[roles.Merging]:
    """A stage's merging stands after its blocks, before the first of the next stage."""
    for path, module in part.named_modules():
        if _merges(module):
            stage = path.rpartition(".")[0]
            last = max((i for i, block in enumerate(blocks) if block.stage == stage), default=-1)
            before = blocks[last + 1].path if last + 1 < len(blocks) else ""
            yield roles.Merging(path, f"{path}.norm", f"{path}.reduction", before, gather_patches)


def _embedding(at: str, whole: Any) -> roles.Embedding:
    norm = None if whole.patch_embed.norm is None else f"{at}patch_embed.norm"
    return roles.Embedding(f"{at}patch_embed.projection", norm)


def _levels(at: str, whole: Any, blocks: tuple[roles.Block, ...]) -> Iterator[roles.Level]:
    for i in whole.out_indices:
        last = [block.path for block in blocks if block.stage == f"{at}stages.{i}"][-1]
        yield roles.Level(last, f"{at}norm{i}")


def _beside(at: str, whole: Any) -> Iterator[str]:
    """What mm's Swin may compute that no role says."""
    if whole.use_abs_pos_embed:
        yield f"absolute positions at {at}absolute_pos_embed"

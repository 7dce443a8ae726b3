"""timm's Swin: explicit forms of window attention and block, and the roles of their modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.swin_transformer import (
    PatchMerging,
    SwinTransformer,
    SwinTransformerBlock,
    WindowAttention,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn

from vitq.methods.architectures import roles
from vitq.methods.architectures.explicit import Add, MatMul, split_heads
from vitq.methods.architectures.timm_vit_options import mlp_role


class ExplicitWindowAttention(WindowAttention):
    """timm's Swin WindowAttention with named products and sums; q is scaled before Q·K^T."""

    def name_products(self) -> None:
        """Add the modules that name products and sums."""
        self.qk, self.av, self.bias_add = MatMul(), MatMul(), Add()
        self.bias, self.logits = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[windows*B, N, C] -> [windows*B, N, C]; `mask` [windows, N, N] is 0 or -100."""
        b, n, _ = x.shape
        q, k, v = split_heads(self.qkv(x), self.num_heads)
        logits = self.logits(self.qk(q * self.scale, k.transpose(-2, -1)))
        logits = self.bias_add(logits, self.bias(self._get_rel_pos_bias()))
        if mask is not None:
            windows = mask.shape[0]
            logits = (logits.view(-1, windows, self.num_heads, n, n) + mask[None, :, None]).view(b, -1, n, n)
        out = self.av(self.attn_drop(self.softmax(logits)), v)
        y: Tensor = self.proj_drop(self.proj(out.transpose(1, 2).reshape(b, n, -1)))
        return y


class ExplicitSwinBlock(SwinTransformerBlock):
    """timm's Swin block with named residual sums, and a pad value that a reparameterized norm1 can shift.

    Where the feature map is no multiple of the window, timm pads norm1's output with zeros. A method that rewrites
    norm1 as X -> (X + shift) / r sets `pad_value` [C] to shift / r, what zero maps to, and the function is unchanged.
    """

    pad_value: Tensor | None

    def name_products(self) -> None:
        """Add the modules that name products and sums."""
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


class TimmSwin:
    """The family; see `explicit.Family`."""

    name = "timm_swin"
    explicit: Mapping[type[nn.Module], type[nn.Module]] = {
        WindowAttention: ExplicitWindowAttention,
        SwinTransformerBlock: ExplicitSwinBlock,
    }
    blocks: tuple[type[nn.Module], ...] = (SwinTransformerBlock,)

    def roles(self, part: nn.Module) -> roles.Roles:
        """The roles of a SwinTransformer, or of what holds blocks of one."""
        path, whole = _whole(part)
        merged = tuple(_mergings(part))
        return roles.Roles(
            family=self.name,
            model=part,
            blocks=tuple(_block(path, block) for path, block in part.named_modules() if _is_block(block)),
            norm_feeds=tuple(_feeds(part)),
            mergings=merged,
            embedding=_embedding(part),
            ends=roles.Ends() if whole is None else _ends(path, whole),
            whole=None if whole is None else path.removesuffix("."),
            layout="map",
            beside=tuple(_beside(part)),
        )


FAMILY = TimmSwin()


@dataclass(frozen=True)
class ShiftedWindows:
    """timm's windows of `size`: the feature map is rolled by `shift`, then padded at its end; see `roles.Windows`."""

    size: tuple[int, int]
    shift: tuple[int, int]

    @property
    def masked(self) -> bool:
        """Whether the windows are shifted."""
        return any(self.shift)

    def apart(self, height: int, width: int) -> Tensor | None:
        """Tokens that the roll alone brought together, [windows, N, N]; None without a shift."""
        if not self.masked:
            return None
        (below, right), (wh, ww) = self._padding(height, width), self.size
        regions = torch.zeros((1, height + below, width + right, 1), dtype=torch.int32)
        cuts = [(slice(0, -s), slice(-s, -by), slice(-by, None)) for s, by in zip(self.size, self.shift, strict=True)]
        for number, (rows, columns) in enumerate((r, c) for r in cuts[0] for c in cuts[1]):
            regions[:, rows, columns] = number
        cut = window_partition(regions, self.size).reshape(-1, wh * ww)
        return cut[:, None] != cut[:, :, None]

    def split(self, maps: Tensor) -> Tensor:
        """[B, H, W, C] -> [B*windows, N, C]."""
        (below, right), (wh, ww) = self._padding(*maps.shape[1:3]), self.size
        rolled = torch.roll(maps, (-self.shift[0], -self.shift[1]), (1, 2)) if any(self.shift) else maps
        padded = nn.functional.pad(rolled, (0, 0, 0, right, 0, below))
        return window_partition(padded, self.size).reshape(-1, wh * ww, maps.shape[3])

    def join(self, windows: Tensor, height: int, width: int) -> Tensor:
        """[B*windows, N, C] -> [B, height, width, C]."""
        (below, right), (wh, ww) = self._padding(height, width), self.size
        cut = windows.reshape(-1, wh, ww, windows.shape[-1])
        maps = window_reverse(cut, self.size, height + below, width + right)[:, :height, :width].contiguous()
        return torch.roll(maps, self.shift, (1, 2)) if any(self.shift) else maps

    def _padding(self, height: int, width: int) -> tuple[int, int]:
        return (-height) % self.size[0], (-width) % self.size[1]


def windows_of(block: Any) -> ShiftedWindows:
    """The windows of a block."""
    (wh, ww), (down, right) = block.window_size, block.shift_size
    return ShiftedWindows((wh, ww), (down, right))


def window_layout(block: Any) -> Tensor:
    """For each place of a block's windows, [windows*N], the place in its feature map, -1 for padding."""
    h, w = block.input_resolution
    numbers = torch.arange(1, h * w + 1, dtype=torch.float32).view(1, h, w, 1)
    return windows_of(block).split(numbers).reshape(-1).long() - 1


def gather_patches(maps: Tensor) -> Tensor:
    """timm's patch merging before its norm: [B, H, W, C] -> [B, H/2, W/2, 4C], padded with zeros where odd."""
    padded = nn.functional.pad(maps, (0, 0, 0, maps.shape[2] % 2, 0, maps.shape[1] % 2))
    b, h, w, c = padded.shape
    return padded.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)


def _whole(part: nn.Module) -> tuple[str, SwinTransformer | None]:
    found = ((f"{name}." if name else "", m) for name, m in part.named_modules() if isinstance(m, SwinTransformer))
    return next(found, ("", None))


def _is_block(module: nn.Module) -> bool:
    return isinstance(module, ExplicitSwinBlock)


def _block(path: str, block: Any) -> roles.Block:
    at = f"{path}." if path else ""
    attention = _attention(f"{at}attn", block)
    mlp = mlp_role(f"{at}mlp", block.mlp)
    stage = path.rpartition(".")[0]
    return roles.Block(path, stage, f"{at}norm1", attention, f"{at}norm2", mlp, (f"{at}add1", f"{at}add2"))


def _attention(path: str, block: Any) -> roles.Attention:
    return roles.Attention(
        path=path, heads=block.attn.num_heads, scale=float(block.attn.scale), qkv=f"{path}.qkv", qk=f"{path}.qk",
        logits=f"{path}.logits", softmax=f"{path}.softmax", av=f"{path}.av", proj=f"{path}.proj", bias=f"{path}.bias",
        bias_add=f"{path}.bias_add", table=f"{path}.relative_position_bias_table",
        index=f"{path}.relative_position_index", windows=windows_of(block), layout=partial(window_layout, block),
        mask=partial(getattr, block, "attn_mask"),
    )  # fmt: skip


def _mergings(part: nn.Module) -> Iterator[roles.Merging]:
    """A stage's merging stands before its blocks, in the module tree as in the forward pass."""
    blocks = [path for path, module in part.named_modules() if _is_block(module)]
    for path, module in part.named_modules():
        if isinstance(module, PatchMerging):
            at, stage = f"{path}." if path else "", path.rpartition(".")[0]
            before = next((block for block in blocks if block.startswith(f"{stage}.")), "")
            yield roles.Merging(path, f"{at}norm", f"{at}reduction", before, gather_patches)


def _feeds(part: nn.Module) -> Iterator[roles.NormFeed]:
    """In the order of the module tree: a stage's merging stands before its blocks."""
    for path, module in part.named_modules():
        at = f"{path}." if path else ""
        if isinstance(module, ExplicitSwinBlock):
            yield roles.NormFeed(f"{at}norm1", f"{at}attn.qkv", partial(setattr, module, "pad_value"))
            yield roles.NormFeed(f"{at}norm2", f"{at}mlp.fc1")
        elif isinstance(module, PatchMerging):
            yield roles.NormFeed(f"{at}norm", f"{at}reduction")


def _embedding(part: nn.Module) -> roles.Embedding:
    """Of a part without a whole too: timm's `features_only` keeps the stages and the embedding, and no transformer."""
    for path, module in part.named_modules():
        if isinstance(module, PatchEmbed):
            at = f"{path}." if path else ""
            return roles.Embedding(f"{at}proj", None if isinstance(module.norm, nn.Identity) else f"{at}norm")
    return roles.Embedding()


def _ends(at: str, whole: SwinTransformer) -> roles.Ends:
    norms = () if isinstance(whole.norm, nn.Identity) else (f"{at}norm",)
    head = None if isinstance(whole.head.fc, nn.Identity) else f"{at}head.fc"
    pooling = {"avg": "mean", "": None}.get(whole.head.global_pool.pool_type, whole.head.global_pool.pool_type)
    return roles.Ends(norms, f"{at}head.global_pool", head, pooling)


def _beside(part: nn.Module) -> Iterator[str]:
    """What timm's Swin may compute that no role says."""
    for path, module in part.named_modules():
        if isinstance(module, SwinTransformer) and type(module) is not SwinTransformer:
            yield f"a class of its own, {type(module).__name__}"
        if isinstance(module, SwinTransformerBlock) and module.dynamic_mask:
            yield f"a dynamic image size at {path}"
        if isinstance(module, SwinTransformerBlock) and not isinstance(module.mlp.norm, nn.Identity):
            yield f"a norm within the MLP at {path}"

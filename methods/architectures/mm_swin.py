"""The Swin of mmdet and of mmsegmentation: explicit forms of its attention and block, and the roles of their modules.

Both libraries have the same classes under names of their own. Neither is imported here: a model of one can only be
where its library has been imported already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from vitq.errors import UnsupportedError
from vitq.methods.architectures import roles
from vitq.methods.architectures.explicit import Add, MatMul, split_heads

LIBRARIES = ("mmdet.models.backbones.swin", "mmseg.models.backbones.swin")
MASKED = -100.0
Size = tuple[int, int]


@dataclass(frozen=True)
class PaddedWindows:
    """mm's windows of `side`: the feature map is padded at its end, then rolled by `shift`; see `roles.Windows`."""

    side: int
    shift: int

    @property
    def masked(self) -> bool:
        """Whether the windows are shifted."""
        return self.shift > 0

    def apart(self, height: int, width: int) -> Tensor | None:
        """Tokens that the roll alone brought together, [windows, N, N]; None without a shift."""
        if not self.masked:
            return None
        regions = torch.zeros((1, *self._padded(height, width), 1), dtype=torch.int32)
        cuts = (slice(0, -self.side), slice(-self.side, -self.shift), slice(-self.shift, None))
        for number, (rows, columns) in enumerate((r, c) for r in cuts for c in cuts):
            regions[:, rows, columns] = number
        cut = self._cut(regions).squeeze(-1)
        return cut[:, None] != cut[:, :, None]

    def split(self, maps: Tensor, pad: Tensor | None = None) -> Tensor:
        """[B, H, W, C] -> [B*windows, N, C]; padded with zeros, or with the values `pad` [C]."""
        height, width = maps.shape[1:3]
        below, right = (
            padded - side for padded, side in zip(self._padded(height, width), maps.shape[1:3], strict=True)
        )
        padded = nn.functional.pad(maps, (0, 0, 0, right, 0, below)) if below or right else maps
        if pad is not None and (below or right):
            padded[:, height:] = pad
            padded[:, :, width:] = pad
        return self._cut(torch.roll(padded, (-self.shift, -self.shift), (1, 2)) if self.shift else padded)

    def join(self, windows: Tensor, height: int, width: int) -> Tensor:
        """[B*windows, N, C] -> [B, height, width, C]."""
        (rows, columns), side = self._padded(height, width), self.side
        cut = windows.reshape(-1, rows // side, columns // side, side, side, windows.shape[-1])
        maps = cut.permute(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, windows.shape[-1])
        maps = torch.roll(maps, (self.shift, self.shift), (1, 2)) if self.shift else maps
        return maps[:, :height, :width].contiguous()

    def _padded(self, height: int, width: int) -> Size:
        return -(-height // self.side) * self.side, -(-width // self.side) * self.side

    def _cut(self, maps: Tensor) -> Tensor:
        b, h, w, c = maps.shape
        cut = maps.reshape(b, h // self.side, self.side, w // self.side, self.side, c)
        return cut.permute(0, 1, 3, 2, 4, 5).reshape(-1, self.side**2, c)


class NamedWindowMSA:
    """What mm's WindowMSA becomes: products and sums are modules; q is scaled before Q·K^T."""

    def name_products(self: Any) -> None:
        """Add the modules that name products and sums."""
        self.qk, self.av, self.bias_add = MatMul(), MatMul(), Add()
        self.bias, self.logits = nn.Identity(), nn.Identity()

    def forward(self: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B*windows, N, C] -> [B*windows, N, C]; `mask` [windows, N, N] is 0 or -100."""
        b, n, _ = x.shape
        q, k, v = split_heads(self.qkv(x), self.num_heads)
        logits = self.logits(self.qk(q * self.scale, k.transpose(-2, -1)))
        table = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        logits = self.bias_add(logits, self.bias(table.view(n, n, -1).permute(2, 0, 1).contiguous().unsqueeze(0)))
        if mask is not None:
            logits = (logits.view(-1, len(mask), self.num_heads, n, n) + mask[None, :, None]).view(b, -1, n, n)
        out = self.av(self.attn_drop(self.softmax(logits)), v)
        y: Tensor = self.proj_drop(self.proj(out.transpose(1, 2).reshape(b, n, -1)))
        return y


class NamedShiftWindowMSA:
    """What mm's ShiftWindowMSA becomes: it remembers the size of the last map, and pads with a value that can be set.

    A method that rewrites norm1 as X -> (X + shift) / r sets `pad_value` [C] to shift / r, what zero maps to.
    """

    def name_products(self: Any) -> None:
        """Add the buffer of the pad value, empty."""
        self.register_buffer("pad_value", None)
        self.seen = None

    def _load_from_state_dict(self: Any, state_dict: dict[str, Tensor], prefix: str, *more: Any) -> None:
        """A state_dict says by a `pad_value` that norm1 was rewritten, by none that it was not."""
        given = state_dict.get(f"{prefix}pad_value")
        self.pad_value = None if given is None else given.new_empty(given.shape, device=next(self.parameters()).device)
        super()._load_from_state_dict(state_dict, prefix, *more)  # type: ignore[misc]

    def forward(self: Any, query: Tensor, hw_shape: Size) -> Tensor:
        """[B, H*W, C] -> [B, H*W, C]."""
        (height, width), windows = hw_shape, windows_of(self)
        self.seen = (height, width)
        cut = windows.split(query.unflatten(1, (height, width)), self.pad_value)  # type: ignore[no-untyped-call]
        mixed = self.w_msa(cut, mask=mask_of(windows, (height, width), query.device))
        y: Tensor = self.drop(windows.join(mixed, height, width).flatten(1, 2))
        return y


class NamedSwinBlock:
    """What mm's SwinBlock becomes: its residual sums are modules."""

    def name_products(self: Any) -> None:
        """Add the modules that name sums."""
        self.add1, self.add2 = Add(), Add()

    def forward(self: Any, x: Tensor, hw_shape: Size) -> Tensor:
        """[B, H*W, C] -> [B, H*W, C]."""
        x = self.add1(x, self.attn(self.norm1(x), hw_shape))
        y: Tensor = self.add2(x, self.ffn.dropout_layer(self.ffn.gamma2(self.ffn.layers(self.norm2(x)))))
        return y


def windows_of(attention: Any) -> PaddedWindows:
    """The windows of a ShiftWindowMSA."""
    return PaddedWindows(attention.window_size, attention.shift_size)


def mask_of(windows: PaddedWindows, size: Size, device: torch.device | None = None) -> Tensor | None:
    """0, and -100 between tokens that are no neighbours, [windows, N, N]; None without a shift."""
    apart = windows.apart(*size)
    return None if apart is None else torch.where(apart.to(device), MASKED, 0.0)


def gather_patches(maps: Tensor) -> Tensor:
    """mm's patch merging before its norm, in nn.Unfold's order: [B, H, W, C] -> [B, H/2, W/2, 4C], padded where odd."""
    padded = nn.functional.pad(maps, (0, 0, 0, maps.shape[2] % 2, 0, maps.shape[1] % 2))
    b, h, w, c = padded.shape
    return padded.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 5, 2, 4).flatten(3)


@dataclass(frozen=True)
class MmSwin:
    """The family of one library; see `explicit.Family`."""

    library: Any
    explicit: Mapping[type[nn.Module], type[nn.Module]]
    blocks: tuple[type[nn.Module], ...]
    name: str = "mm_swin"

    def roles(self, part: nn.Module) -> roles.Roles:
        """The roles of a SwinTransformer, or of what holds one or blocks of one."""
        path, whole = next(
            ((p, m) for p, m in part.named_modules() if isinstance(m, self.library.SwinTransformer)), ("", None)
        )
        found = tuple(_block(p, m) for p, m in part.named_modules() if isinstance(m, self.blocks))
        at = f"{path}." if path else ""
        return roles.Roles(
            family=self.name, model=part, blocks=found, norm_feeds=tuple(self._feeds(part)),
            mergings=tuple(self._mergings(part, found)), embedding=_embedding(at, whole), layout="map",
            whole=None if whole is None else path, levels=tuple(_levels(at, whole, found)),
            beside=tuple(self._beside(part)),
        )  # fmt: skip

    def _mergings(self, part: nn.Module, found: tuple[roles.Block, ...]) -> Iterator[roles.Merging]:
        """A stage's merging stands after its blocks."""
        paths = [block.path for block in found]
        for path, module in part.named_modules():
            if isinstance(module, self.library.PatchMerging):
                stage = path.rpartition(".")[0]
                last = max(i for i, p in enumerate(paths) if p.startswith(f"{stage}."))
                yield roles.Merging(path, f"{path}.norm", f"{path}.reduction", paths[last + 1], gather_patches)

    def _feeds(self, part: nn.Module) -> Iterator[roles.NormFeed]:
        for path, module in part.named_modules():
            at = f"{path}." if path else ""
            if isinstance(module, self.blocks):
                moved = partial(setattr, module.attn, "pad_value")
                yield roles.NormFeed(f"{at}norm1", f"{at}attn.w_msa.qkv", moved)
                yield roles.NormFeed(f"{at}norm2", f"{at}ffn.layers.0.0")
            elif isinstance(module, self.library.PatchMerging) and module.norm is not None:
                yield roles.NormFeed(f"{at}norm", f"{at}reduction")

    def _beside(self, part: nn.Module) -> Iterator[str]:
        for path, module in part.named_modules():
            if isinstance(module, self.library.SwinTransformer):
                yield from (f"{what} at {path or 'the top'}" for what, there in _of_whole(module).items() if there)
            elif isinstance(module, self.library.PatchMerging):
                yield from (f"{what} at {path}" for what, there in _of_merging(module).items() if there)
            elif isinstance(module, self.blocks) and not isinstance(module.ffn.gamma2, nn.Identity):
                yield f"LayerScale at {path}"


def families() -> tuple[MmSwin, ...]:
    """A family for each library that has been imported."""
    return tuple(_family(name) for name in LIBRARIES if name in sys.modules)


@cache
def _family(name: str) -> MmSwin:
    library: Any = sys.modules[name]
    named = {"WindowMSA": NamedWindowMSA, "ShiftWindowMSA": NamedShiftWindowMSA, "SwinBlock": NamedSwinBlock}
    explicit = {getattr(library, n): type(f"Explicit{n}", (form, getattr(library, n)), {}) for n, form in named.items()}
    return MmSwin(library, explicit, (library.SwinBlock,))


def _block(path: str, block: Any) -> roles.Block:
    at = f"{path}." if path else ""
    mlp = roles.Mlp(f"{at}ffn.layers.0.0", f"{at}ffn.layers.0.1", f"{at}ffn.layers.1")
    stage = path.rpartition(".blocks.")[0]
    attention = _attention(f"{at}attn.w_msa", block.attn)
    return roles.Block(path, stage, f"{at}norm1", attention, f"{at}norm2", mlp, (f"{at}add1", f"{at}add2"))


def _attention(path: str, shifted: Any) -> roles.Attention:
    names = ("qkv", "qk", "logits", "softmax", "av", "proj", "bias", "bias_add")
    return roles.Attention(
        path=path, heads=shifted.w_msa.num_heads, scale=float(shifted.w_msa.scale),
        **{name: f"{path}.{name}" for name in names}, table=f"{path}.relative_position_bias_table",
        index=f"{path}.relative_position_index", windows=windows_of(shifted), layout=partial(_layout, shifted),
        mask=partial(_mask, shifted),
    )  # type: ignore[arg-type]  # fmt: skip


def _seen(shifted: Any) -> Size:
    if shifted.seen is None:
        raise UnsupportedError("no image has shown this window attention the size of its feature map yet")
    height, width = shifted.seen
    return height, width


def _layout(shifted: Any) -> Tensor:
    """Of the map that the attention saw last."""
    height, width = _seen(shifted)
    numbers = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, height, width, 1)
    return windows_of(shifted).split(numbers).reshape(-1).long() - 1


def _mask(shifted: Any) -> Tensor | None:
    return mask_of(windows_of(shifted), _seen(shifted))


def _embedding(at: str, whole: Any) -> roles.Embedding:
    if whole is None:
        return roles.Embedding()
    norm = None if whole.patch_embed.norm is None else f"{at}patch_embed.norm"
    return roles.Embedding(f"{at}patch_embed.projection", norm)


def _levels(at: str, whole: Any, found: tuple[roles.Block, ...]) -> Iterator[roles.Level]:
    for i in () if whole is None else whole.out_indices:
        last = [block.path for block in found if block.stage == f"{at}stages.{i}"][-1]
        yield roles.Level(last, f"{at}norm{i}")


def _of_whole(whole: Any) -> dict[str, bool]:
    padding = whole.patch_embed.adap_padding
    return {
        "an absolute position embedding": whole.use_abs_pos_embed,
        "a patch embedding that pads on every side": padding is not None and padding.padding != "corner",
    }


def _of_merging(merging: Any) -> dict[str, bool]:
    sampler, padding = merging.sampler, merging.adap_padding
    two = all(tuple(size) == (2, 2) for size in (sampler.kernel_size, sampler.stride))
    return {
        "patch merging of other than 2x2 patches": not two or padding is None or padding.padding != "corner",
        "patch merging without a norm": merging.norm is None,
    }

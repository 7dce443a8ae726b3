"""Swin: blocks with attention in shifted windows, patch merging, and the classifier on the mean over positions."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.swin_transformer import PatchMerging, window_partition, window_reverse
from torch import Tensor, nn

from vitq.errors import UnsupportedError
from vitq.methods.i_vit import functions, products, sums
from vitq.methods.i_vit.blocks import IntegerBlock, PatchEmbed
from vitq.methods.i_vit.grids import Scaled
from vitq.methods.i_vit.network import Flow, LogitsOut, Network, _Head, depth_rates, each
from vitq.methods.i_vit.plan import Plan


class IntegerSwinBlock(IntegerBlock):
    """A Swin block: attention in windows, shifted in every other block."""

    def __init__(self, block: Any, plan: Plan, drop_path: float) -> None:
        if getattr(block, "dynamic_mask", False):
            raise UnsupportedError("I-ViT serves Swin with a fixed image size (no dynamic mask)")
        super().__init__(block, block.attn_mask, plan, drop_path)
        self.window, self.shift = tuple(block.window_size), tuple(block.shift_size)

    def _mix(self, x: Flow) -> Flow:
        (wh, ww), shape = self.window, (x.value if isinstance(x, Scaled) else x).shape
        pad = ((wh - shape[1] % wh) % wh, (ww - shape[2] % ww) % ww)

        def split(t: Tensor) -> Tensor:
            t = torch.roll(t, shifts=(-self.shift[0], -self.shift[1]), dims=(1, 2)) if any(self.shift) else t
            t = nn.functional.pad(t, (0, 0, 0, pad[1], 0, pad[0]))
            return window_partition(t, (wh, ww)).reshape(-1, wh * ww, shape[3])

        def join(t: Tensor) -> Tensor:
            t = window_reverse(t.reshape(-1, wh, ww, shape[3]), (wh, ww), shape[1] + pad[0], shape[2] + pad[1])
            t = t[:, : shape[1], : shape[2]].contiguous()
            return torch.roll(t, shifts=self.shift, dims=(1, 2)) if any(self.shift) else t

        return each(self.attn(each(x, split)), join)  # type: ignore[no-any-return]


class _Merging(nn.Module):
    """Swin's patch merging."""

    def __init__(self, merging: Any, plan: Plan) -> None:
        super().__init__()
        self.norm = functions.Norm(merging.norm, plan.activation, plan)
        self.reduction = products.Linear(merging.reduction, plan.merged, plan)

    def forward(self, x: Flow) -> Flow:
        """[B, H, W, C] -> [B, H/2, W/2, 2C]."""

        def gather(t: Tensor) -> Tensor:
            t = nn.functional.pad(t, (0, 0, 0, t.shape[2] % 2, 0, t.shape[1] % 2))
            b, h, w, c = t.shape
            return t.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)

        return self.reduction(self.norm(each(x, gather)))  # type: ignore[no-any-return]


class _Stage(nn.Module):
    def __init__(self, stage: Any, plan: Plan, rates: list[float]) -> None:
        super().__init__()
        down, blocks = stage.downsample, stage.blocks
        self.downsample = _Merging(down, plan) if isinstance(down, PatchMerging) else None
        self.blocks = nn.ModuleList(IntegerSwinBlock(b, plan, r) for b, r in zip(blocks, rates, strict=True))

    def forward(self, x: Flow) -> Flow:
        x = x if self.downsample is None else self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class IntegerSwin(Network):
    """Swin with average pooling."""

    def __init__(self, model: Any, plan: Plan, drop_path: float = 0.0) -> None:
        super().__init__(plan)
        if model.head.global_pool.pool_type != "avg":
            raise UnsupportedError("I-ViT serves Swin with average pooling")
        device = model.patch_embed.proj.weight.device
        self.input = products.Input(plan, device)
        self.patch_embed = PatchEmbed(model.patch_embed, plan)
        self.regrid = None if plan.paper("residual") else sums.Regrid(plan.residual, plan, device)
        depths = [len(stage.blocks) for stage in model.layers]
        rates = iter(depth_rates(drop_path, sum(depths)))
        self.layers = nn.ModuleList(
            _Stage(stage, plan, [next(rates) for _ in range(depth)])
            for stage, depth in zip(model.layers, depths, strict=True)
        )
        self.norm = functions.Norm(model.norm, plan.activation, plan)
        self.head = _Head(model.head, plan, device)
        self.output = LogitsOut(plan)

    def run(self, x: Flow) -> Flow:
        """See Network."""
        x = self.patch_embed(x)
        x = x if self.regrid is None else self.regrid(x)
        for stage in self.layers:
            x = stage(x)
        return self.head(self.norm(x))  # type: ignore[no-any-return]

"""The networks: ViT, DeiT and Swin wired from nodes, once for both forms.

What flows between nodes is `Scaled` in the trainable form and an integer tensor in the integer form; only `each`, which
reshapes, can tell. The nodes have the paths that their FP layers have in timm, and products and sums those of
`vitq.methods.explicit`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from timm.layers.drop import DropPath
from timm.models.swin_transformer import (
    PatchMerging,
    SwinTransformer,
    WindowAttention,
    window_partition,
    window_reverse,
)
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitq.methods.base import UnsupportedError
from vitq.methods.i_vit import nodes
from vitq.methods.i_vit.nodes import Scaled
from vitq.methods.i_vit.plan import Plan

Flow = TypeVar("Flow", Tensor, Scaled)


def each(x: Flow, reshape: Callable[[Tensor], Tensor]) -> Flow:
    """Reshape, select or move what flows; the scale stays."""
    if isinstance(x, Scaled):
        return Scaled(reshape(x.value), x.scale)
    return reshape(x)


class LogitsOut(nn.Module):
    """The logits' real values, from what the head gives."""

    def forward(self, x: Scaled) -> Tensor:
        """[B, classes]."""
        return x.value


def _heads(x: Flow, heads: int) -> tuple[Flow, Flow, Flow]:
    def pick(i: int) -> Callable[[Tensor], Tensor]:
        return lambda t: t.reshape(*t.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)[i]

    return each(x, pick(0)), each(x, pick(1)), each(x, pick(2))


class IntegerAttention(nn.Module):
    """Multi-head attention of ViT or of a Swin window; 1/sqrt(d) is part of the scale of Q·K^T."""

    def __init__(self, attn: Any, mask: Tensor | None, plan: Plan) -> None:
        super().__init__()
        device, swin = attn.qkv.weight.device, isinstance(attn, WindowAttention)
        if not swin and (
            attn.gate is not None or any(not isinstance(n, nn.Identity) for n in (attn.q_norm, attn.norm))
        ):
            raise UnsupportedError("I-ViT serves attention without gates and without norms of its own")
        self.heads = attn.num_heads
        self.qkv = nodes.Linear(attn.qkv, plan.activation, plan)
        joined = swin and plan.paper("activations")
        self.qk = nodes.MatMul((8, 8), None if joined else plan.activation, float(attn.scale), plan, device)
        self.bias_add = nodes.AddConstant(_BiasTable(attn), plan.activation, plan, device) if swin else None
        self.mask = None if mask is None else nodes.Mask(mask)
        self.softmax = nodes.Softmax(plan, swin)
        self.av = nodes.MatMul((plan.probability_bits(swin), 8), plan.activation, 1.0, plan, device)
        self.proj = nodes.Linear(attn.proj, plan.branch, plan)

    def forward(self, x: Flow) -> Flow:
        """[B, N, C] -> [B, N, C]."""
        q, k, v = _heads(self.qkv(x), self.heads)
        logits = self.qk(q, each(k, lambda t: t.transpose(-2, -1)))
        logits = logits if self.bias_add is None else self.bias_add(logits)
        logits = logits if self.mask is None else self.mask(logits)
        out = self.av(self.softmax(logits), v)
        return self.proj(each(out, lambda t: t.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


class _BiasTable(nn.Module):
    """Swin's relative-position bias [1, heads, n, n], gathered from its table."""

    index: Tensor

    def __init__(self, attn: Any) -> None:
        super().__init__()
        self.table, self.area = attn.relative_position_bias_table, attn.window_area
        self.register_buffer("index", attn.relative_position_index.view(-1).clone(), persistent=False)

    def forward(self) -> Tensor:
        bias: Tensor = self.table[self.index].view(self.area, self.area, -1).permute(2, 0, 1).unsqueeze(0)
        return bias


class _Constant(nn.Module):
    def __init__(self, value: nn.Parameter) -> None:
        super().__init__()
        self.value = value

    def forward(self) -> Tensor:
        return self.value


class IntegerMlp(nn.Module):
    """fc1, GELU, fc2."""

    def __init__(self, mlp: Any, plan: Plan) -> None:
        super().__init__()
        fc1, fc2 = mlp.fc1, mlp.fc2
        if not isinstance(mlp.act, nn.GELU) or not isinstance(getattr(mlp, "norm", nn.Identity()), nn.Identity):
            raise UnsupportedError("I-ViT serves MLPs of two linear layers with a GELU between them")
        self.fc1 = nodes.Linear(fc1, plan.activation, plan)
        self.act = nodes.Gelu(plan, fc1.weight.device)
        self.fc2 = nodes.Linear(fc2, plan.branch, plan)

    def forward(self, x: Flow) -> Flow:
        """[..., C] -> [..., C]."""
        return self.fc2(self.act(self.fc1(x)))  # type: ignore[no-any-return]


class IntegerBlock(nn.Module):
    """A block: attention and MLP, each after a norm and before a residual sum."""

    def __init__(self, block: Any, mask: Tensor | None, plan: Plan, drop_path: float) -> None:
        super().__init__()
        scaled = any(not isinstance(getattr(block, n, nn.Identity()), nn.Identity) for n in ("ls1", "ls2"))
        if scaled:
            raise UnsupportedError("I-ViT serves blocks without LayerScale")
        device = block.norm1.weight.device
        self.norm1 = nodes.Norm(block.norm1, plan.activation, plan)
        self.attn = IntegerAttention(block.attn, mask, plan)
        self.add1 = nodes.Add(plan.residual, plan, device)
        self.norm2 = nodes.Norm(block.norm2, plan.activation, plan)
        self.mlp = IntegerMlp(block.mlp, plan)
        self.add2 = nodes.Add(plan.residual, plan, device)
        self.drop_path = DropPath(drop_path)

    def _mix(self, x: Flow) -> Flow:
        return self.attn(x)  # type: ignore[no-any-return]

    def forward(self, x: Flow) -> Flow:
        """Same shape."""
        x = self.add1(each(self._mix(self.norm1(x)), self.drop_path), x)
        return self.add2(each(self.mlp(self.norm2(x)), self.drop_path), x)  # type: ignore[no-any-return]


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


class PatchEmbed(nn.Module):
    """Patch embedding to [B, H', W', C], with Swin's norm where there is one."""

    def __init__(self, embed: Any, plan: Plan) -> None:
        super().__init__()
        conv, norm = embed.proj, embed.norm
        if not isinstance(conv, nn.Conv2d) or conv.stride != conv.kernel_size or conv.groups != 1:
            raise UnsupportedError("I-ViT serves a patch embedding that is one convolution with stride = kernel")
        self.proj = nodes.Linear(conv, plan.residual, plan)
        self.norm = nodes.Norm(norm, plan.residual, plan) if isinstance(norm, nn.LayerNorm) else None

    def forward(self, x: Flow) -> Flow:
        """[B, 3, H, W] -> [B, H', W', C]."""
        x = self.proj(x)
        return x if self.norm is None else self.norm(x)


class Network(nn.Module):
    """What both networks share: images in, real logits out, `run` between on what flows."""

    input: nn.Module
    output: nn.Module

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def logits_scale(self) -> Tensor:
        """The scale of the classifier's INT32 output, in the paper's arithmetic."""
        head = self.head.fc if isinstance(self.head, _Head) else self.head
        assert isinstance(head, nodes.Linear)
        assert head.out is not None
        return head.out.scale

    def run(self, x: Flow) -> Flow:  # noqa: ARG002
        """The network from the quantized image to the logits; integers to integers in the integer form."""
        raise TypeError(f"{type(self).__name__} is no network of its own")

    def forward(self, image: Tensor) -> Tensor:
        """Normalized images [B, 3, H, W] to logits [B, classes]; in full precision, which codes need."""
        with torch.autocast(image.device.type, enabled=False):
            logits: Tensor = self.output(self.run(self.input(image.float())))
        return logits


def _depth_rates(rate: float, depth: int) -> list[float]:
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


class IntegerViT(Network):
    """ViT and DeiT with a class token."""

    def __init__(self, model: Any, plan: Plan, drop_path: float = 0.0) -> None:
        super().__init__(plan)
        _refuse(model)
        device = model.patch_embed.proj.weight.device
        self.input = nodes.Input(plan, device)
        self.patch_embed = PatchEmbed(model.patch_embed, plan)
        self.tokens = nodes.ClassToken(model.cls_token, plan)
        self.position_add = nodes.AddConstant(_Constant(model.pos_embed), plan.residual, plan, device)
        rates = _depth_rates(drop_path, len(model.blocks))
        self.blocks = nn.ModuleList(IntegerBlock(b, None, plan, r) for b, r in zip(model.blocks, rates, strict=True))
        self.norm = nodes.Norm(model.norm, plan.activation, plan)
        self.head = _head(model.head, plan)
        self.output = LogitsOut()

    def run(self, x: Flow) -> Flow:
        """See Network; the final norm needs the class token alone."""
        x = each(self.patch_embed(x), lambda t: t.flatten(1, 2))
        x = self.position_add(self.tokens(x))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(each(x, lambda t: t[:, 0])))  # type: ignore[no-any-return]


def _head(head: nn.Module, plan: Plan) -> nodes.Linear:
    """The classifier; in the paper's arithmetic its accumulators are brought to one INT32 scale, to be comparable."""
    if not isinstance(head, nn.Linear):
        raise UnsupportedError("I-ViT needs a linear classifier at the end of the model")
    return nodes.Linear(head, plan.residual if plan.paper("residual") else None, plan)


def _refuse(model: Any) -> None:
    wrong = {
        "global pooling other than 'token'": model.global_pool != "token" or model.cls_token is None,
        "register tokens": getattr(model, "reg_token", None) is not None,
        "position embeddings without the class token": model.pos_embed is None or model.no_embed_class,
        "a dynamic image size": model.dynamic_img_size,
        "a norm before the blocks": not isinstance(model.norm_pre, nn.Identity),
        "a norm after pooling": not isinstance(model.fc_norm, nn.Identity),
    }
    for what, found in wrong.items():
        if found:
            raise UnsupportedError(f"I-ViT does not serve {what}")


class _Merging(nn.Module):
    """Swin's patch merging."""

    def __init__(self, merging: Any, plan: Plan) -> None:
        super().__init__()
        self.norm = nodes.Norm(merging.norm, plan.activation, plan)
        self.reduction = nodes.Linear(merging.reduction, plan.residual, plan)

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


class _Head(nn.Module):
    def __init__(self, head: Any, plan: Plan, device: torch.device) -> None:
        super().__init__()
        self.global_pool = nodes.Pool(plan, device)
        self.fc = _head(head.fc, plan)

    def forward(self, x: Flow) -> Flow:
        return self.fc(self.global_pool(x))  # type: ignore[no-any-return]


class IntegerSwin(Network):
    """Swin with average pooling."""

    def __init__(self, model: Any, plan: Plan, drop_path: float = 0.0) -> None:
        super().__init__(plan)
        if model.head.global_pool.pool_type != "avg":
            raise UnsupportedError("I-ViT serves Swin with average pooling")
        device = model.patch_embed.proj.weight.device
        self.input = nodes.Input(plan, device)
        self.patch_embed = PatchEmbed(model.patch_embed, plan)
        depths = [len(stage.blocks) for stage in model.layers]
        rates = iter(_depth_rates(drop_path, sum(depths)))
        self.layers = nn.ModuleList(
            _Stage(stage, plan, [next(rates) for _ in range(depth)])
            for stage, depth in zip(model.layers, depths, strict=True)
        )
        self.norm = nodes.Norm(model.norm, plan.activation, plan)
        self.head = _Head(model.head, plan, device)
        self.output = LogitsOut()

    def run(self, x: Flow) -> Flow:
        """See Network."""
        x = self.patch_embed(x)
        for stage in self.layers:
            x = stage(x)
        return self.head(self.norm(x))  # type: ignore[no-any-return]


def build(model: nn.Module, plan: Plan, drop_path: float = 0.0) -> Network:
    """The trainable form of a timm VisionTransformer or SwinTransformer, on its parameters; else UnsupportedError."""
    if isinstance(model, VisionTransformer):
        return IntegerViT(model, plan, drop_path)
    if isinstance(model, SwinTransformer):
        return IntegerSwin(model, plan, drop_path)
    raise UnsupportedError(f"I-ViT serves timm's VisionTransformer and SwinTransformer, not {type(model).__name__}")

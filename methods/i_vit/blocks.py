"""The blocks of ViT, DeiT and Swin wired from nodes, once for both forms.

The nodes have the paths that their FP layers have in timm, and products and sums those of `architectures.explicit`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.layers.drop import DropPath
from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn

from vitq.errors import UnsupportedError
from vitq.methods.i_vit import functions, products, sums
from vitq.methods.i_vit.network import Flow, each
from vitq.methods.i_vit.plan import Plan


class PatchEmbed(nn.Module):
    """Patch embedding to [B, H', W', C], with Swin's norm where there is one."""

    def __init__(self, embed: Any, plan: Plan) -> None:
        super().__init__()
        conv, norm = embed.proj, embed.norm
        if not isinstance(conv, nn.Conv2d) or conv.stride != conv.kernel_size or conv.groups != 1:
            raise UnsupportedError("I-ViT serves a patch embedding that is one convolution with stride = kernel")
        normed = isinstance(norm, nn.LayerNorm)
        self.proj = products.Linear(conv, plan.merged if normed else plan.residual, plan)
        self.norm = functions.Norm(norm, plan.residual, plan) if normed else None

    def forward(self, x: Flow) -> Flow:
        """[B, 3, H, W] -> [B, H', W', C]."""
        x = self.proj(x)
        return x if self.norm is None else self.norm(x)


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
        self.qkv = products.Linear(attn.qkv, plan.activation, plan)
        joined = swin and plan.paper("activations")
        self.qk = products.MatMul((8, 8), None if joined else plan.activation, float(attn.scale), plan, device)
        self.bias_add = _relative_bias(attn, plan) if swin else None
        self.mask = None if mask is None else _mask(mask, plan)
        self.softmax = functions.Softmax(plan, swin)
        self.av = products.MatMul((plan.probability_bits(swin), 8), plan.activation, 1.0, plan, device)
        self.proj = products.Linear(attn.proj, plan.branch, plan)

    def forward(self, x: Flow) -> Flow:
        """[B, N, C] -> [B, N, C]."""
        q, k, v = _heads(self.qkv(x), self.heads)
        logits = self.qk(q, each(k, lambda t: t.transpose(-2, -1)))
        logits = logits if self.bias_add is None else self.bias_add(logits)
        logits = logits if self.mask is None else self.mask(logits)
        out = self.av(self.softmax(logits), v)
        return self.proj(each(out, lambda t: t.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


def _relative_bias(attn: Any, plan: Plan) -> sums.AddConstant:
    return sums.AddConstant(attn.relative_position_bias_table, _Window(attn), plan.activation, plan)


def _mask(mask: Tensor, plan: Plan) -> sums.Mask:
    if not mask.is_meta and not bool(((mask == 0) | (mask == sums.MASKED)).all()):
        raise UnsupportedError(f"I-ViT serves Swin's attention mask of 0 and {sums.MASKED:.0f} alone")
    return sums.Mask(mask, plan)


class _Window(nn.Module):
    """Swin's relative-position bias [1, heads, n, n], gathered from its table."""

    index: Tensor

    def __init__(self, attn: Any) -> None:
        super().__init__()
        self.area = attn.window_area
        self.register_buffer("index", attn.relative_position_index.view(-1).clone(), persistent=False)

    def forward(self, table: Tensor) -> Tensor:
        bias: Tensor = table[self.index].view(self.area, self.area, -1).permute(2, 0, 1).unsqueeze(0)
        return bias


class IntegerMlp(nn.Module):
    """fc1, GELU, fc2."""

    def __init__(self, mlp: Any, plan: Plan) -> None:
        super().__init__()
        fc1, fc2 = mlp.fc1, mlp.fc2
        if not isinstance(mlp.act, nn.GELU) or not isinstance(getattr(mlp, "norm", nn.Identity()), nn.Identity):
            raise UnsupportedError("I-ViT serves MLPs of two linear layers with a GELU between them")
        self.fc1 = products.Linear(fc1, plan.activation, plan)
        self.act = functions.Gelu(plan, fc1.weight.device)
        self.fc2 = products.Linear(fc2, plan.branch, plan)

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
        device, channels = block.norm1.weight.device, 1 if plan.branch else block.norm1.weight.numel()
        self.norm1 = functions.Norm(block.norm1, plan.activation, plan)
        self.attn = IntegerAttention(block.attn, mask, plan)
        self.add1 = sums.Add(plan.residual, channels, plan, device)
        self.norm2 = functions.Norm(block.norm2, plan.activation, plan)
        self.mlp = IntegerMlp(block.mlp, plan)
        self.add2 = sums.Add(plan.residual, channels, plan, device)
        self.drop_path = DropPath(drop_path)

    def _mix(self, x: Flow) -> Flow:
        return self.attn(x)  # type: ignore[no-any-return]

    def forward(self, x: Flow) -> Flow:
        """Same shape."""
        x = self.add1(each(self._mix(self.norm1(x)), self.drop_path), x)
        return self.add2(each(self.mlp(self.norm2(x)), self.drop_path), x)  # type: ignore[no-any-return]

"""The blocks of ViT, DeiT and Swin wired from nodes by the roles of their modules, once for both forms."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from vitq.errors import UnsupportedError
from vitq.methods.architectures import roles
from vitq.methods.architectures.roles import Roles
from vitq.methods.i_vit.drop_path import DropPath
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.gelu import Gelu
from vitq.methods.i_vit.layernorm import LayerNorm
from vitq.methods.i_vit.linear import Linear
from vitq.methods.i_vit.mask import Mask
from vitq.methods.i_vit.matmul import MatMul
from vitq.methods.i_vit.softmax import Softmax
from vitq.methods.i_vit.sums import Add, AddConstant
from vitq.methods.i_vit.tokens import RelativeBias
from vitq.methods.i_vit.tree import Flow, Tree, each, map_size


def norm_of(known: Roles, path: str) -> nn.LayerNorm:
    """The LayerNorm of a role; UnsupportedError for another normalization."""
    norm = known.module(path)
    if not isinstance(norm, nn.LayerNorm):
        raise UnsupportedError(f"I-ViT serves LayerNorm, and {path} is {type(norm).__name__}")
    return norm


def linear_of(known: Roles, path: str) -> nn.Linear:
    """The linear layer of a role; UnsupportedError for another layer."""
    layer = known.module(path)
    if not isinstance(layer, nn.Linear):
        raise UnsupportedError(f"I-ViT serves linear layers, and {path} is {type(layer).__name__}")
    return layer


class Steps(Tree):
    """A tree that runs its nodes in an order of its own: each stands at a path below, and is called by its step."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.steps = path, dict[str, str]()

    def add(self, step: str, path: str, node: nn.Module) -> None:
        """A node for a step, at its path in the model."""
        below = path.removeprefix(f"{self.path}.") if self.path else path
        self.put(below, node)
        self.steps[step] = below

    def do(self, step: str, *flows: Flow, at: tuple[int, ...] = ()) -> Flow:
        """The step on what flows; nothing where the network has no such step.

        `at` is the height and width of the feature map, for steps that ask for them.
        """
        if step not in self.steps:
            return flows[0]
        flow: Flow = self.get_submodule(self.steps[step])(*flows, *at)
        return flow


class Block(Steps):
    """A block: attention and MLP, each after a norm and before a residual sum."""

    def __init__(self, known: Roles, block: roles.Block, forms: Forms, drop_path: float) -> None:
        super().__init__(block.path)
        self.heads, self.windows = block.attention.heads, block.attention.windows
        norms = norm_of(known, block.norm1), norm_of(known, block.norm2)
        channels, device = 1 if forms.branch else norms[0].weight.numel(), norms[0].weight.device
        self.add("norm1", block.norm1, LayerNorm(norms[0], forms.activation, forms))
        self._add_attention(known, block.attention, forms)
        self.add("add1", block.sums[0], Add(forms.residual, channels, forms, device))
        self.add("norm2", block.norm2, LayerNorm(norms[1], forms.activation, forms))
        self._add_mlp(known, block.mlp, forms)
        self.add("add2", block.sums[1], Add(forms.residual, channels, forms, device))
        self.drop_path = DropPath(drop_path)

    def _add_attention(self, known: Roles, attention: roles.Attention, forms: Forms) -> None:
        qkv = linear_of(known, attention.qkv)
        joined = attention.bias_add is not None and forms.paper("activations")  # the bias takes the accumulators
        bits = forms.probability_bits(attention.windowed)
        self.add("qkv", attention.qkv, Linear(qkv, forms.activation, forms))
        logits = None if joined else forms.activation
        self.add("qk", attention.qk, MatMul((8, 8), logits, attention.scale, forms, qkv.weight.device))
        if attention.bias_add is not None:
            self.add("bias_add", attention.bias_add, _relative_bias(known, attention, forms))
        if attention.windows is not None and attention.windows.masked:
            self.add("mask", f"{attention.path}.mask", Mask(attention.windows, forms))
        self.add("softmax", attention.softmax, Softmax(forms, attention.windowed))
        self.add("av", attention.av, MatMul((bits, 8), forms.activation, 1.0, forms, qkv.weight.device))
        self.add("proj", attention.proj, Linear(linear_of(known, attention.proj), forms.branch, forms))

    def _add_mlp(self, known: Roles, mlp: roles.Mlp, forms: Forms) -> None:
        fc1, fc2 = linear_of(known, mlp.fc1), linear_of(known, mlp.fc2)
        if not isinstance(known.module(mlp.act), nn.GELU):
            raise UnsupportedError("I-ViT serves MLPs of two linear layers with a GELU between them")
        self.add("fc1", mlp.fc1, Linear(fc1, forms.activation, forms))
        self.add("act", mlp.act, Gelu(forms, fc1.weight.device))
        self.add("fc2", mlp.fc2, Linear(fc2, forms.branch, forms))

    def forward(self, x: Flow) -> Flow:
        """Same shape."""
        x = self.do("add1", each(self._mix(self.do("norm1", x)), self.drop_path), x)
        branch = self.do("fc2", self.do("act", self.do("fc1", self.do("norm2", x))))
        return self.do("add2", each(branch, self.drop_path), x)

    def _mix(self, x: Flow) -> Flow:
        """Attention over all tokens, [B, N, C], or within the windows of a map, [B, H, W, C]."""
        if self.windows is None:
            return self._attend(x)
        windows, (height, width) = self.windows, map_size(x)
        mixed = self._attend(each(x, windows.split), (height, width))
        return each(mixed, lambda t: windows.join(t, height, width))

    def _attend(self, x: Flow, at: tuple[int, ...] = ()) -> Flow:
        """[B, N, C] -> [B, N, C]; 1/sqrt(d) is part of the scale of Q·K^T. `at` is the size of a map in windows."""
        q, k, v = _heads(self.do("qkv", x), self.heads)
        logits = self.do("qk", q, each(k, lambda t: t.transpose(-2, -1)))
        probabilities = self.do("softmax", self.do("mask", self.do("bias_add", logits), at=at))
        out = self.do("av", probabilities, v)
        return self.do("proj", each(out, lambda t: t.transpose(1, 2).flatten(2)))


def _heads(x: Flow, heads: int) -> tuple[Flow, Flow, Flow]:
    def pick(i: int) -> Callable[[Tensor], Tensor]:
        return lambda t: t.reshape(*t.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)[i]

    return each(x, pick(0)), each(x, pick(1)), each(x, pick(2))


def _relative_bias(known: Roles, attention: roles.Attention, forms: Forms) -> AddConstant:
    if attention.table is None or attention.index is None:
        raise UnsupportedError(f"I-ViT needs the table and the index of the relative-position bias of {attention.path}")
    table, index = known.model.get_parameter(attention.table), known.model.get_buffer(attention.index)
    return AddConstant(table, RelativeBias(index), forms.activation, forms)


class Merging(Steps):
    """Patch merging between two stages."""

    def __init__(self, known: Roles, merging: roles.Merging, forms: Forms) -> None:
        super().__init__(merging.path)
        self.gather = merging.gather
        self.add("norm", merging.norm, LayerNorm(norm_of(known, merging.norm), forms.activation, forms))
        reduction = linear_of(known, merging.reduction)
        self.add("reduction", merging.reduction, Linear(reduction, forms.merged, forms))

    def forward(self, x: Flow) -> Flow:
        """[B, H, W, C] -> [B, H/2, W/2, 2C]."""
        return self.do("reduction", self.do("norm", each(x, self.gather)))

"""PSAQ-ViT's quantizer and the activations it quantizes (arXiv 2203.02250, and its released code).

A node is a module whose output goes through a quantizer: a child module `output_quantizer`, called by a forward hook
that is a plain function, so that a quantized model can be copied, saved and loaded as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.explicit import MatMul, attentions, make_explicit
from vitq.methods.bits import Bits
from vitq.methods.toolkit.layers import (
    Packed,
    QConv2d,
    QLinear,
    State,
    child_state,
    fit_all,
    replace_modules,
    restore_child,
    set_mode,
)
from vitq.methods.toolkit.observers import MinMax
from vitq.methods.toolkit.quantizers import UniformQuantizer, round_ste, scalar
from vitq.subject import Batch, Output

EMBEDDING = ("patch_embed.proj", "patch_embed.norm", "tokens", "position", "position_add")
ATTENTION = ("attn.qkv", "attn.logits", "attn.bias", "attn.bias_add", "attn.av", "attn.proj")
RESIDUAL = ("add1", "add2")
BLOCK = ("norm1", *ATTENTION, "norm2", "mlp.act", "mlp.fc2", *RESIDUAL)
MERGING = ("downsample.norm", "downsample.reduction")
OUTPUT = ("norm", "fc_norm", "head.global_pool", "head", "head.fc")
NODES = (*EMBEDDING, *BLOCK, *MERGING, *OUTPUT)
"""Modules whose output is quantized, by the end of their name; the input image is quantized before `patch_embed.proj`.

The softmax's probabilities and the input of GELU stay in floating point.
"""
_NAMED_IDENTITIES = ("tokens", "position", "attn.logits", "attn.bias")


class ActivationMinMax(MinMax):
    """Plain range of one calibration batch; the zero point is clamped to the codes, z in 0..2^b-1."""

    def grid(self, bits: int) -> tuple[Tensor, Tensor]:
        """D = (max - min)/(2^b - 1), z = clamp(round(-min/D), 0, 2^b - 1)."""
        scale, zero_point = super().grid(bits)
        return scale, zero_point.clamp(0, 2**bits - 1)


class ActivationQuantizer(UniformQuantizer):
    """Asymmetric, uniform, one grid a tensor: x_hat = (clamp(round(x/D + z), 0, 2^b-1) - z) * D.

    The zero point is added before rounding, as in the released code, so that a tie goes to the even code and not to the
    even number of steps: pixels normalized with mean = std = 0.5 are all ties of their own grid.
    """

    def __init__(self, bits: int) -> None:
        super().__init__(bits, ActivationMinMax())

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes (int32), clamp(round(x/D + z), 0, 2^b-1)."""
        return torch.round(x / self.scale + self.zero_point).clamp(*self.limits).to(torch.int32)

    def fake_quant(self, x: Tensor) -> Tensor:
        """Quantize and dequantize; straight-through inside the clipping range when gradients are enabled."""
        low, high = self.limits
        if torch.is_grad_enabled() and x.requires_grad:
            codes = round_ste(x / self.scale + self.zero_point).clamp(low, high)
            return (codes - self.zero_point) * self.scale
        step, zero = scalar(self.scale), scalar(self.zero_point)
        y: Tensor = (x / step).add_(zero).round_().clamp_(low, high).sub_(zero).mul_(step)
        return y

    def packed_tensors(self) -> list[Packed]:
        """The grid alone."""
        return [Packed("grid", self.overhead_bits() // 32, 32)]


def weight_quantizer(bits: int, channels: int) -> UniformQuantizer:
    """Symmetric per output channel: D = m/(2^(b-1) - 0.5), m = max(|min|, |max|), codes -2^(b-1)..2^(b-1)-1.

    The half means that a row whose extreme is positive is clipped there, to 0.933 m at 4 bit.
    """
    return UniformQuantizer(bits, MinMax(axis=0, symmetric=True), axis=0, symmetric=True, channels=channels)


class NodeLinear(QLinear):
    """A linear layer whose input comes from a node, so that it is on an activation grid already (or floating point)."""

    input_bits: int

    @classmethod
    def fed(cls, linear: nn.Linear, bits: int, input_bits: int) -> NodeLinear:
        """Take over a layer's parameters; its input has `input_bits`."""
        self = cast(NodeLinear, cls.of(linear, weight_quantizer(bits, linear.out_features), None))
        self.input_bits = input_bits
        return self

    def operand_bits(self) -> tuple[float, float]:
        """(input width, weight width)."""
        return self.input_bits, super().operand_bits()[1]

    def packed_tensors(self) -> list[Packed]:
        """As QLinear's, and the grid of the output."""
        return super().packed_tensors() + _output_grid(self)


class NodeConv2d(QConv2d):
    """The patch embedding: quantizes the image itself, and its output as a node."""

    def packed_tensors(self) -> list[Packed]:
        """As QConv2d's, and the grid of the output."""
        return super().packed_tensors() + _output_grid(self)


class NodeMatMul(MatMul):
    """A product of operands that are on a grid already (or floating point)."""

    def __init__(self, left_bits: int, right_bits: int) -> None:
        super().__init__()
        self.left_bits, self.right_bits = left_bits, right_bits

    def operand_bits(self) -> tuple[float, float]:
        """(left width, right width)."""
        return self.left_bits, self.right_bits

    def packed_tensors(self) -> list[Packed]:
        """The grid of the output, where it is a node."""
        return _output_grid(self)

    def stored_state(self) -> State:
        """The grid of the output, where it is a node."""
        return child_state("output_quantizer", getattr(self, "output_quantizer", None))

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take the grid of the output, where it is a node."""
        restore_child("output_quantizer", getattr(self, "output_quantizer", None), state)


def _output_grid(module: nn.Module) -> list[Packed]:
    quantizer = getattr(module, "output_quantizer", None)
    return [] if quantizer is None else [Packed("output grid", quantizer.overhead_bits() // 32, 32)]


def _quantize_output(module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    quantized: Tensor = module.output_quantizer(output)  # type: ignore[operator]
    return quantized


def require_attention(model: nn.Module) -> nn.Module:
    """The model in explicit form; UnsupportedError where it has no attention that can be made explicit."""
    if not attentions(make_explicit(model)):
        raise UnsupportedError(f"{type(model).__name__} has no timm Attention or WindowAttention: PSAQ-ViT needs one")
    return model


def quantize_nodes(model: nn.Module, bits: Bits, skip: Iterable[str] = ()) -> nn.Module:
    """Give a transformer PSAQ-ViT's quantizers, in place, all off; `skip` names entries of NODES left in FP."""
    wanted = [node for node in NODES if node not in set(skip)]
    after_gelu = bits.a if "mlp.act" in wanted else 32

    def swap(name: str, module: nn.Module) -> nn.Module | None:
        if type(module) is nn.Linear:
            return NodeLinear.fed(module, bits.w, after_gelu if _ends(name, "mlp.fc2") else bits.a)
        if type(module) is nn.Conv2d:
            return NodeConv2d.of(module, weight_quantizer(bits.w, module.out_channels), ActivationQuantizer(bits.a))
        if type(module) is MatMul:
            return NodeMatMul(32 if _ends(name, "av") else bits.a, bits.a)
        return None

    replace_modules(require_attention(model), swap)
    for _, module in nodes(model, wanted):
        module.output_quantizer = ActivationQuantizer(bits.a)
        module.register_forward_hook(_quantize_output)
    return model.to(next(model.parameters()).device)


def nodes(model: nn.Module, wanted: Iterable[str] = NODES) -> list[tuple[str, nn.Module]]:
    """The explicit model's nodes by name, in the order of its module tree."""
    ends = tuple(wanted)
    return [
        (name, module)
        for name, module in model.named_modules()
        if any(_ends(name, end) for end in ends) and _is_node(name, module)
    ]


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith("." + end)


def _is_node(name: str, module: nn.Module) -> bool:
    """Not the container `head` of Swin, nor an Identity that timm has where a model has no such layer."""
    if isinstance(module, nn.Identity):
        return any(_ends(name, end) for end in _NAMED_IDENTITIES)
    container = {child for child, _ in module.named_children()} & {"fc", "global_pool"}
    return not container


def calibrate(
    model: nn.Module, forward: Callable[[nn.Module, Batch], Output], batches: Iterable[Batch]
) -> dict[str, tuple[float, float]]:
    """Range every quantizer in full precision over the batches, freeze the ranges, switch everything on.

    Returns the range [min, max] of each residual sum by name, whether it is quantized or not. Raises MethodInputError
    where there is no batch.
    """
    set_mode(model, "observe")
    seen = 0
    with _residual_ranges(model) as ranges, torch.no_grad():
        for batch in batches:
            forward(model, batch)
            seen += 1
    if not seen:
        raise MethodInputError("the calibration set is empty: give images to take ranges from")
    fit_all(model)
    set_mode(model, "on")
    return {name: (float(watch.low), float(watch.high)) for name, watch in ranges.items() if watch.low is not None}


@contextmanager
def _residual_ranges(model: nn.Module) -> Iterator[dict[str, Any]]:
    watches: dict[str, Any] = {}
    handles = []
    for name, module in nodes(model, RESIDUAL):
        watch = watches[name] = MinMax()
        handles.append(module.register_forward_hook(lambda _m, _i, out, watch=watch: watch.update(out)))
    try:
        yield watches
    finally:
        for handle in handles:
            handle.remove()

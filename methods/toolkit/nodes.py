"""Nodes: modules whose output goes through a quantizer of activations, and the layers that such outputs feed.

A node has a child module `output_quantizer`, called by a forward hook that is a plain function, so that a quantized
model can be copied, saved and loaded as any other. The grids are those of PSAQ-ViT's and FQ-ViT's released code.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vitq.methods.architectures.explicit import MatMul
from vitq.methods.architectures.roles import Block, Roles
from vitq.methods.toolkit.chunks import in_pieces
from vitq.methods.toolkit.layers import QConv2d, QLinear
from vitq.methods.toolkit.observers import MinMax
from vitq.methods.toolkit.quantizers import Grid, Quantizer, UniformQuantizer, round_ste, scalar
from vitq.methods.toolkit.stored import Packed, State, child_state, restore_child

Spared = Literal["sums", "activation"]
"""Nodes of every block that may stay in floating point: both residual sums, or the MLP's activation (GELU)."""


class ActivationMinMax(MinMax):
    """Plain range of one calibration batch; the zero point is clamped to the codes, z in 0..2^b-1."""

    def grid(self, bits: int) -> tuple[Tensor, Tensor]:
        """D = (max - min)/(2^b - 1), z = clamp(round(-min/D), 0, 2^b - 1)."""
        scale, zero_point = super().grid(bits)
        return scale, zero_point.clamp(0, 2**bits - 1)


class ActivationQuantizer(UniformQuantizer):
    """Asymmetric, uniform, one grid a tensor: x_hat = (clamp(round(x/D + z), 0, 2^b-1) - z) * D.

    `grid` finds scale and zero point, `ActivationMinMax` unless another is given.

    The zero point is added before rounding, as in the released code, so that a tie goes to the even code and not to the
    even number of steps: pixels normalized with mean = std = 0.5 are all ties of their own grid.
    """

    def __init__(self, bits: int, grid: Grid | None = None) -> None:
        super().__init__(bits, ActivationMinMax() if grid is None else grid)

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes (int32), clamp(round(x/D + z), 0, 2^b-1)."""
        return torch.round(x / self.scale + self.zero_point).clamp(*self.limits).to(torch.int32)

    def fake_quant(self, x: Tensor) -> Tensor:
        """Quantize and dequantize; straight-through inside the clipping range when gradients are enabled."""
        low, high = self.limits
        if torch.is_grad_enabled() and x.requires_grad:
            codes = round_ste(x / self.scale + self.zero_point).clamp(low, high)
            return (codes - self.zero_point) * self.scale
        return self.evaluate(x)

    def evaluate(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Quantize and dequantize without gradients, in pieces."""
        low, high = self.limits
        step, zero = scalar(self.scale), scalar(self.zero_point)
        if isinstance(step, Tensor):
            y: Tensor = (x / step).add_(zero).round_().clamp_(low, high).sub_(zero).mul_(step)
            return y

        def work(part: Tensor, y: Tensor | None) -> Tensor:
            return torch.div(part, step, out=y).add_(zero).round_().clamp_(low, high).sub_(zero).mul_(step)

        return in_pieces(x, work, out)

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
        return super().packed_tensors() + output_grid(self)


class NodeConv2d(QConv2d):
    """The patch embedding: quantizes the image itself, and its output as a node."""

    def packed_tensors(self) -> list[Packed]:
        """As QConv2d's, and the grid of the output."""
        return super().packed_tensors() + output_grid(self)


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
        return output_grid(self)

    def stored_state(self) -> State:
        """The grid of the output, where it is a node."""
        return child_state("output_quantizer", getattr(self, "output_quantizer", None))

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take the grid of the output, where it is a node."""
        restore_child("output_quantizer", getattr(self, "output_quantizer", None), state)


def output_grid(module: nn.Module) -> list[Packed]:
    """The grid of a node's output, as it ships; nothing where the module is no node."""
    quantizer = getattr(module, "output_quantizer", None)
    return [] if quantizer is None else [Packed("output grid", quantizer.overhead_bits() // 32, 32)]


def quantize_output(module: nn.Module, quantizer: Quantizer) -> None:
    """Make a node of a module: its output goes through the quantizer from now on."""
    module.output_quantizer = quantizer
    module.register_forward_hook(_through_quantizer)


def _through_quantizer(module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    quantizer = getattr(module, "output_quantizer", None)
    return None if quantizer is None else quantizer(output)


def node_paths(roles: Roles, spared: Collection[Spared] = ()) -> list[str]:
    """The modules whose output is quantized, by their path, in the order of the module tree.

    The softmax's probabilities and the input of GELU stay in floating point; the input image is quantized before the
    embedding's projection.
    """
    at = roles.embedding
    paths = [at.projection, at.norm, at.tokens, at.position, at.position_add, at.last_norm]
    for block in roles.blocks:
        paths += _block_nodes(block, spared)
    for merging in roles.mergings:
        paths += [merging.norm, merging.reduction]
    return roles.ordered(*paths, *end_paths(roles))


def _block_nodes(block: Block, spared: Collection[Spared]) -> list[str | None]:
    attention = block.attention
    paths = [block.norm1, attention.qkv, attention.logits, attention.bias, attention.bias_add, attention.av]
    paths += [*attention.norms, attention.proj, block.norm2, block.mlp.norm, block.mlp.fc2]
    paths += [] if "activation" in spared else [block.mlp.act]
    return paths if "sums" in spared else [*paths, *block.sums]


def end_paths(roles: Roles) -> list[str]:
    """What follows the blocks: norms, pooling and classifier, which a part may have and never run."""
    ends = roles.ends
    return roles.ordered(*ends.norms, ends.pool, ends.head, *ends.further_heads)

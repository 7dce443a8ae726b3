"""PSAQ-ViT's quantizer and the activations it quantizes (arXiv 2203.02250, and its released code).

A node is a module whose output goes through a quantizer: a child module `output_quantizer`, called by a forward hook
that is a plain function, so that a quantized model can be copied, saved and loaded as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.explicit import MatMul
from vitq.methods.architectures.roles import Block, Roles, roles_of
from vitq.methods.bits import Bits
from vitq.methods.toolkit.chunks import in_pieces
from vitq.methods.toolkit.layers import QConv2d, QLinear
from vitq.methods.toolkit.modules import replace_modules, set_mode
from vitq.methods.toolkit.observers import MinMax
from vitq.methods.toolkit.quantizers import UniformQuantizer, round_ste, scalar
from vitq.methods.toolkit.stored import Packed, State, child_state, restore_child
from vitq.methods.toolkit.unreached import fit_reached, leave_out, say
from vitq.subject import Batch, Output

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


def _quantize_output(module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
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
    return roles.ordered(*paths, *_ends(roles))


def _block_nodes(block: Block, spared: Collection[Spared]) -> list[str | None]:
    attention = block.attention
    paths = [block.norm1, attention.qkv, attention.logits, attention.bias, attention.bias_add, attention.av]
    paths += [*attention.norms, attention.proj, block.norm2, block.mlp.norm, block.mlp.fc2]
    paths += [] if "activation" in spared else [block.mlp.act]
    return paths if "sums" in spared else [*paths, *block.sums]


def _ends(roles: Roles) -> list[str]:
    ends = roles.ends
    return roles.ordered(*ends.norms, ends.pool, ends.head, *ends.further_heads)


def quantize_nodes(
    part: nn.Module, bits: Bits, spared: Collection[Spared] = (), unreached: Collection[str] = ()
) -> nn.Module:
    """Give a transformer PSAQ-ViT's quantizers, in place, all off; returns it.

    `unreached` are paths of nodes that get none, as `calibrate` found them. UnsupportedError for a part without
    attention, and for a gated MLP: the product of its halves, which enters the second layer, is no module's output.
    """
    roles = roles_of(part)
    gated = next((block for block in roles.blocks if block.mlp.gated), None)
    if gated is not None:
        raise UnsupportedError(
            f"PSAQ-ViT quantizes what modules put out, and has no node in the gated MLP of {gated.path}"
        )
    replace_modules(part, _swap(roles, bits, spared))
    leave_out(part, [path for path in unreached if path.endswith("_quantizer")])
    for path in node_paths(roles, spared):
        if path not in unreached:
            node = roles.module(path)
            node.output_quantizer = ActivationQuantizer(bits.a)
            node.register_forward_hook(_quantize_output)
    return part.to(next(part.parameters()).device)


def _swap(roles: Roles, bits: Bits, spared: Collection[Spared]) -> Callable[[str, nn.Module], nn.Module | None]:
    """What takes the place of a module; an operand that is no node's output has 32 bits."""
    probabilities = {attention.av for attention in roles.attentions}
    after_activation = {block.mlp.fc2 for block in roles.blocks} if "activation" in spared else set()

    def swap(path: str, module: nn.Module) -> nn.Module | None:
        if type(module) is nn.Linear:
            return NodeLinear.fed(module, bits.w, 32 if path in after_activation else bits.a)
        if type(module) is nn.Conv2d:
            return NodeConv2d.of(module, weight_quantizer(bits.w, module.out_channels), ActivationQuantizer(bits.a))
        if type(module) is MatMul:
            return NodeMatMul(32 if path in probabilities else bits.a, bits.a)
        return None

    return swap


class Calibration(NamedTuple):
    """What calibration saw: the range of each residual sum by its path, quantized or not, and which ends it never ran.

    A backbone's own norm, pooling and classifier may stand in a model that never runs them.
    """

    residual_ranges: dict[str, tuple[float, float]]
    unreached: list[str]

    @property
    def facts(self) -> dict[str, Any]:
        """What `quantize_nodes` must know to make the same nodes again."""
        return {"unreached": self.unreached} if self.unreached else {}


def calibrate(part: nn.Module, run: Callable[[Batch], Output], batches: Iterable[Batch]) -> Calibration:
    """Range every quantizer of a part in full precision while `run` takes the batches, then switch all on.

    An end that no batch reached loses its quantizer, since there is nothing to range it by. Raises MethodInputError
    where there is no batch, and where a quantizer elsewhere has seen nothing.
    """
    set_mode(part, "observe")
    roles = roles_of(part)
    with (
        _watch(part, [path for block in roles.blocks for path in block.sums]) as sums,
        _watch(part, _ends(roles)) as ends,
    ):
        _run_all(run, batches)
    for module in part.modules():
        if isinstance(module, (NodeLinear, NodeConv2d)) and module.weight_quantizer is not None:
            module.weight_quantizer.observe(module.weight.detach())
    unreached = [path for path, seen in ends.items() if seen.low is None]
    for path in unreached:
        part.get_submodule(path).register_module("output_quantizer", None)
    unreached += fit_reached(part, roles)
    say(unreached)
    set_mode(part, "on")
    ran = {path: (seen.low, seen.high) for path, seen in sums.items()}
    ranges = {path: (float(low), float(high)) for path, (low, high) in ran.items() if not (low is None or high is None)}
    return Calibration(ranges, unreached)


def _run_all(run: Callable[[Batch], Output], batches: Iterable[Batch]) -> None:
    seen = 0
    with torch.no_grad():
        for batch in batches:
            run(batch)
            seen += 1
    if not seen:
        raise MethodInputError("the calibration set is empty: give images to take ranges from")


@contextmanager
def _watch(part: nn.Module, paths: Iterable[str]) -> Iterator[dict[str, MinMax]]:
    """The running range of what modules put out, by their path."""
    watches = {path: MinMax() for path in paths}
    handles = [
        part.get_submodule(path).register_forward_hook(lambda _m, _i, out, watch=watch: watch.update(out))
        for path, watch in watches.items()
    ]
    try:
        yield watches
    finally:
        for handle in handles:
            handle.remove()

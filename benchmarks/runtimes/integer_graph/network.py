"""`integer_graph`: an I-ViT network in integers as one ONNX graph, from the normalized image to the logits.

Floating point is the image's quantization at the input and the logits' scale at the output, and nothing between.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import onnx
import torch
from torch import nn

from vitq.benchmarks.runtimes.integer_graph import arithmetic as do
from vitq.benchmarks.runtimes.integer_graph import dyadic, operators
from vitq.benchmarks.runtimes.integer_graph.dyadic import ZERO, Sums
from vitq.benchmarks.runtimes.integer_graph.graph import Graph, Value
from vitq.benchmarks.runtimes.integer_graph.serves import unsupported
from vitq.errors import UnsupportedError
from vitq.methods.i_vit.blocks import Block
from vitq.methods.i_vit.ends import IntegerInput, IntegerReals
from vitq.methods.i_vit.gelu import IntegerGelu
from vitq.methods.i_vit.layernorm import IntegerLayerNorm
from vitq.methods.i_vit.linear import IntegerLinear
from vitq.methods.i_vit.matmul import IntegerMatMul
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.softmax import IntegerSoftmax
from vitq.methods.i_vit.sums import IntegerAdd, IntegerAddConstant
from vitq.methods.i_vit.tokens import IntegerClassToken

WeightType = Literal["int8", "uint8"]
"""How weights are held: int8, which VNNI multiplies fastest, or uint8 with a zero point. Without VNNI onnxruntime's
kernel of x86 for the first saturates sums of two products at 16 bits; the second is exact on every CPU."""
Kind = TypeVar("Kind", bound=nn.Module)
CODE_PRODUCT = 2**14
"""The largest product of two INT8 codes."""


@torch.no_grad()
def integer_graph(network: nn.Module, shape: tuple[int, ...], weights: WeightType = "int8") -> onnx.ModelProto:
    """The graph of a network's integer form for images of a shape [B, 3, H, W], float32 in and out.

    UnsupportedError for what it has no operators of, and for numbers that could overflow their type.
    """
    reason = unsupported(network, "integer-only:torch")
    if reason is not None or not isinstance(network, Network):
        raise UnsupportedError(reason or "the integer graph is of an I-ViT network")
    writer = Writer(network, weights)
    logits = writer.logits(shape)
    assert isinstance(network.output, IntegerReals)
    real = writer.g.node("Cast", [logits.name], to=onnx.TensorProto.FLOAT)
    output = writer.g.node("Mul", [real, writer.g.scale(float(network.output.scale))])
    return writer.g.model(shape, output, logits.shape, "I-ViT in integers; float32 at the image and the logits alone")


class Writer:
    """Writes a network's steps into a graph, in forward order."""

    def __init__(self, network: Network, weights: WeightType) -> None:
        self.network, self.weights, self.g, self.tokens = network, weights, Graph(), 0

    def logits(self, shape: tuple[int, ...]) -> Value:
        """From the image to the logits' codes [B, classes]."""
        g, network = self.g, self.network
        x = self._embedded(self._codes(shape), shape)
        (batch, self.tokens, width) = x.shape
        x = g.reshape(x, (batch * self.tokens, width))  # rows of one matrix, which splits into tiles better
        for path in network.trunk:
            block = network.get_submodule(path)
            if not isinstance(block, Block):
                raise UnsupportedError(f"the integer graph has blocks, and {path} is {type(block).__name__}")
            x = self._block(block, x)
        first = g.part(g.reshape(x, (batch, self.tokens, width)), 1, 0)
        codes = operators.layer_norm(g, step(network, "norm", IntegerLayerNorm), first)
        head = step(network, "head", IntegerLinear)
        assert head.out is not None
        return dyadic.to_wide(g, self._linear(head, codes), head.out)

    def _codes(self, shape: tuple[int, ...]) -> Value:
        """The image's codes, uint8."""
        assert isinstance(self.network.input, IntegerInput)
        zero = self.g.constant(ZERO, "uint8")
        name = self.g.node("QuantizeLinear", ["images", self.g.scale(float(self.network.input.scale)), zero.name])
        return Value(name, "uint8", tuple(shape), 0, 255)

    def _embedded(self, codes: Value, shape: tuple[int, ...]) -> Value:
        """Patches, the class token and positions: the residual stream, int32 [B, N, C]."""
        g, network, (b, channels, height, width), (h, w) = self.g, self.network, shape, self.network.patch
        if "embedding_norm" in network.steps or height % h or width % w:
            raise UnsupportedError("the integer graph has images of whole patches without a norm after the embedding")
        rows, columns = height // h, width // w
        x = g.transpose(g.reshape(codes, (b, channels, rows, h, columns, w)), (0, 2, 4, 1, 3, 5))
        projection = step(network, "projection", IntegerLinear)
        assert projection.out is not None
        x = g.reshape(x, (b, rows * columns, channels * h * w))
        x = dyadic.to_wide(g, self._linear(projection, x), projection.out)
        if "tokens" in network.steps:
            token = step(network, "tokens", IntegerClassToken).token
            x = g.join([g.constant(token.to(torch.int64).expand(b, -1, -1), "int32"), x], 1)
        if "position_add" not in network.steps:
            return x
        positions = step(network, "position_add", IntegerAddConstant)
        moved = dyadic.to_wide(g, dyadic.of_value(x), positions.left)
        placed = positions.arrange(positions.codes, rows, columns)
        return _held(g, do.add(g, moved, placed.to(torch.int64)), positions.bits)

    def _linear(self, node: IntegerLinear, x: Value) -> Sums:
        """uint8 codes [..., in] to accumulators [..., out], whose bias is yet to be added, and their ranges."""
        weight = node.weight.flatten(1).to(torch.int64)
        size = (
            127 * weight.clamp(min=0) - 128 * weight.clamp(max=0),
            128 * weight.clamp(min=0) - 127 * weight.clamp(max=0),
        )
        bias = [0] * len(weight) if node.bias is None else [int(v) for v in node.bias.tolist()]
        high = [int(s) + o for s, o in zip(size[0].sum(1).tolist(), bias, strict=True)]
        low = [o - int(s) for s, o in zip(size[1].sum(1).tolist(), bias, strict=True)]
        zero = ZERO if self.weights == "uint8" else 0
        held = self.g.constant((weight.t() + zero).contiguous(), self.weights)
        raw = self._product(x, ZERO, held, zero, (*x.shape[:-1], len(weight)))
        return Sums(raw, bias, low, high)

    def _product(self, a: Value, zero_a: int, b: Value, zero_b: int, shape: tuple[int, ...]) -> Value:
        zeros = [self.g.constant(zero_a, a.kind), self.g.constant(zero_b, b.kind)]
        bound = CODE_PRODUCT * a.shape[-1]
        return self.g.put("MatMulInteger", [a, b, *zeros], "int32", shape, -bound, bound)

    def _block(self, block: Block, x: Value) -> Value:
        """Attention and MLP, each after a norm and before a residual sum."""
        g = self.g
        if "bias_add" in block.steps or "mask" in block.steps or block.windows is not None:
            raise UnsupportedError("the integer graph has attention over all tokens, without windows or a bias")
        mixed = self._attend(block, operators.layer_norm(g, step(block, "norm1", IntegerLayerNorm), x))
        x = self._sum(step(block, "add1", IntegerAdd), mixed, x)
        hidden = self._codes_of(step(block, "fc1", IntegerLinear), operators.layer_norm(
            g, step(block, "norm2", IntegerLayerNorm), x
        ))  # fmt: skip
        hidden = operators.gelu(g, step(block, "act", IntegerGelu), hidden)
        return self._sum(step(block, "add2", IntegerAdd), self._linear(step(block, "fc2", IntegerLinear), hidden), x)

    def _codes_of(self, node: IntegerLinear, x: Value) -> Value:
        if node.out is None:
            raise UnsupportedError("the integer graph wants codes of 8 bits here")
        return dyadic.to_codes(self.g, self._linear(node, x), node.out)

    def _attend(self, block: Block, x: Value) -> Sums:
        g, n, b = self.g, self.tokens, x.shape[0] // self.tokens
        codes = self._codes_of(step(block, "qkv", IntegerLinear), x)
        width = codes.shape[-1] // 3
        d = width // block.heads
        split = g.transpose(g.reshape(codes, (b, n, 3, block.heads, d)), (2, 0, 3, 1, 4))
        q, k, v = (g.part(split, 0, i) for i in range(3))
        qk, av = (step(block, name, IntegerMatMul) for name in ("qk", "av"))
        if qk.out is None or av.out is None or av.bits != (8, 8):
            raise UnsupportedError("the integer graph has attention products of 8-bit codes to 8-bit codes")
        whole = (b, block.heads, n, n)
        logits = self._product(q, ZERO, g.transpose(k, (0, 1, 3, 2)), ZERO, whole)
        probabilities = operators.softmax(g, step(block, "softmax", IntegerSoftmax), _codes(g, logits, qk.out))
        mixed = _codes(g, self._product(probabilities, 0, v, ZERO, (b, block.heads, n, d)), av.out)
        joined = g.reshape(g.transpose(mixed, (0, 2, 1, 3)), (b * n, width))
        return self._linear(step(block, "proj", IntegerLinear), joined)

    def _sum(self, node: IntegerAdd, branch: Sums, stream: Value) -> Value:
        g = self.g
        left, right = dyadic.to_wide(g, branch, node.left), dyadic.to_wide(g, dyadic.of_value(stream), node.right)
        return _held(g, do.add(g, left, right), node.bits)


def _codes(g: Graph, sums: Value, number: dyadic.Requantize) -> Value:
    return dyadic.to_codes(g, dyadic.of_value(sums), number)


def _held(g: Graph, x: Value, bits: int) -> Value:
    return do.at_most(g, do.at_least(g, x, -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)


def step(steps: Network | Block, name: str, kind: type[Kind]) -> Kind:
    """The node of a step; UnsupportedError for another than the graph has."""
    node = steps.get_submodule(steps.steps[name]) if name in steps.steps else None
    if not isinstance(node, kind):
        raise UnsupportedError(f"the integer graph has {kind.__name__} for {name}, not {type(node).__name__}")
    return node

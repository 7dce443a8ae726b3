"""An integer network's nodes to what kernels are given: tensors on the device, and the widths that kernels hold."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from vitq.errors import UnsupportedError
from vitq.methods.i_vit import ablations, operators_paper
from vitq.methods.i_vit.blocks import Block
from vitq.methods.i_vit.gelu import IntegerGelu
from vitq.methods.i_vit.grids import Requantize
from vitq.methods.i_vit.layernorm import IntegerLayerNorm
from vitq.methods.i_vit.linear import IntegerLinear
from vitq.methods.i_vit.matmul import IntegerMatMul
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.softmax import IntegerSoftmax
from vitq.methods.i_vit.sums import IntegerAdd

Kind = TypeVar("Kind", bound=nn.Module)
DIFFERENCES = 256
"""How far an INT8 logit can lie below the largest, and one more."""


class Scale(NamedTuple):
    """Dyadic numbers, int32 [channels] or [1], the width they are clamped to, and how they round.

    `high`: every shift is at least 33, so that a product's upper half decides.
    """

    multiplier: Tensor
    shift: Tensor
    bits: int
    nearest: bool
    high: bool


class Product(NamedTuple):
    """INT8 weights [out, in] and INT32 biases [out]."""

    weight: Tensor
    bias: Tensor


class Norm(NamedTuple):
    """I-LayerNorm's integers: int32 [C], int64 [C] that includes what rounds to nearest, and the shift, int32 [1].

    `high`: the shift is at least 33, so that the upper half decides.
    """

    multiplier: Tensor
    bias: Tensor
    shift: Tensor
    high: bool


class Softmax(NamedTuple):
    """Shiftmax: I_0 and what divides by it, int32 [1], whether that holds, and exponentials of 0 to -255, int64.

    `largest` is the largest exponential.
    """

    one: Tensor
    magic: Tensor
    narrow: bool
    table: Tensor
    largest: int


class Sum(NamedTuple):
    """A residual sum: dyadic numbers of the branch and of the stream, and the sum's width."""

    branch: Scale
    stream: Scale
    bits: int


class BlockNumbers(NamedTuple):
    """A block of ViT or DeiT."""

    heads: int
    norm1: Norm
    qkv: Product
    qkv_scale: Scale
    qk: Scale
    softmax: Softmax
    av: Scale
    proj: Product
    add1: Sum
    norm2: Norm
    fc1: Product
    fc1_scale: Scale
    gelu: Tensor
    fc2: Product
    add2: Sum


def step(steps: Network | Block, name: str, kind: type[Kind]) -> Kind:
    """The node of a step; UnsupportedError for another than the engine serves."""
    node = steps.get_submodule(steps.steps[name])
    if not isinstance(node, kind):
        raise UnsupportedError(f"the engine serves {kind.__name__} for {name}, not {type(node).__name__}")
    return node


def requantization(out: Requantize | None, bits: int = 8) -> Requantize:
    """A requantization to codes of this width; UnsupportedError for none or another width."""
    if out is None or out.bits != bits:
        raise UnsupportedError(f"the engine serves a requantization to {bits} bits here")
    return out


def scale(number: Requantize, device: torch.device, channels: int = 1) -> Scale:
    """A requantization's numbers, one a channel even where all are the same."""
    multiplier, shift = (
        x.to(device, torch.int32).reshape(-1).expand(channels).contiguous() for x in (number.multiplier, number.shift)
    )
    return Scale(multiplier, shift, number.bits, number.rounding == "nearest", bool((shift >= 33).all()))


def product(node: IntegerLinear, device: torch.device) -> Product:
    """A linear layer's, or a patch embedding's, weights and biases; zeros where it has none."""
    weight = node.weight.flatten(1).to(device).contiguous()
    bias = torch.zeros(len(weight), dtype=torch.int32) if node.bias is None else node.bias
    return Product(weight, bias.to(device))


def norm(node: IntegerLayerNorm, device: torch.device) -> Norm:
    """I-LayerNorm to 8 bits; UnsupportedError for another norm."""
    if node.operator != ablations.NORM["integer"] or node.bits != 8:
        raise UnsupportedError("the engine serves I-LayerNorm to 8 bits")
    shift = int(node.shift)
    half = (1 << shift) >> 1 if node.rounding == "nearest" else 0
    one = torch.full((1,), shift, dtype=torch.int32, device=device)
    return Norm(node.multiplier.to(device), (node.bias + half).to(device), one, shift >= 33)


def softmax(node: IntegerSoftmax, device: torch.device) -> Softmax:
    """Shiftmax to 8 bits, or another whose exponential is a table of the distance to the largest logit."""
    down = -torch.arange(DIFFERENCES)
    constants = tuple(int(c) for c in node.constants())
    if node.bits != 8:
        raise UnsupportedError(f"the engine serves probabilities of 8 bits, not {node.bits}")
    one, magic, narrow = 1, 0, False
    if node.operator == ablations.SOFTMAX["polynomial"]:
        table = ablations.polynomial_exp(down, constants)
    elif node.operator == ablations.SOFTMAX["shiftmax"]:
        one = constants[0]
        magic = 2**20 // one + 1
        table = operators_paper.shift_exp(down, one, operators_paper.SOFTMAX_SHIFT)
        negative = -(down + (down >> 1) - (down >> 4))
        divided = bool(((negative * magic) >> 20 == negative // one).all() and (negative * magic).max() < 2**31)
        narrow = divided and one < 2**16
    else:
        raise UnsupportedError("the engine serves Shiftmax and the polynomial softmax")
    numbers = [torch.full((1,), x, dtype=torch.int32, device=device) for x in (one, magic)]
    return Softmax(numbers[0], numbers[1], narrow, table.to(device), int(table.max()))


def gelu(node: IntegerGelu, device: torch.device) -> Tensor:
    """The GELU of a code in a row whose largest code is m, as int8 [m + 128, code + 128], by the node itself."""
    requantization(node.out)
    codes = torch.arange(-128, 128, device=node.get_buffer("constant0").device)
    rows = torch.minimum(codes[None, :], codes[:, None]).to(torch.int8)
    table: Tensor = node(rows)
    return table.to(device).contiguous()


def linear(node: IntegerLinear, device: torch.device) -> tuple[Product, Scale]:
    """A linear layer and its requantization to 8 bits."""
    return product(node, device), scale(requantization(node.out), device, len(node.weight))


def accumulating(node: IntegerLinear, device: torch.device) -> Product:
    """A linear layer whose accumulators flow on."""
    if node.out is not None:
        raise UnsupportedError("the engine serves residual branches that are accumulators")
    return product(node, device)


def addition(node: IntegerAdd, channels: int, device: torch.device) -> Sum:
    """The numbers of a residual sum, one a channel for its branch."""
    return Sum(scale(node.left, device, channels), scale(node.right, device), node.bits)


def block(node: Block, device: torch.device) -> BlockNumbers:
    """A block of ViT or DeiT; UnsupportedError for what the engine has no kernel of."""
    if "bias_add" in node.steps or "mask" in node.steps or node.windows is not None:
        raise UnsupportedError("the engine serves attention over all tokens, without windows or a bias of positions")
    qkv, qkv_scale = linear(step(node, "qkv", IntegerLinear), device)
    fc1, fc1_scale = linear(step(node, "fc1", IntegerLinear), device)
    qk, av = (scale(requantization(step(node, name, IntegerMatMul).out), device) for name in ("qk", "av"))
    proj, fc2 = (accumulating(step(node, name, IntegerLinear), device) for name in ("proj", "fc2"))
    channels = len(proj.weight)
    one, two = (addition(step(node, name, IntegerAdd), channels, device) for name in ("add1", "add2"))
    if len(qkv.weight) != 3 * channels or channels % node.heads:
        raise UnsupportedError("the engine serves heads that fill the width")
    return BlockNumbers(
        node.heads, norm(step(node, "norm1", IntegerLayerNorm), device), qkv, qkv_scale, qk,
        softmax(step(node, "softmax", IntegerSoftmax), device), av, proj, one,
        norm(step(node, "norm2", IntegerLayerNorm), device), fc1, fc1_scale,
        gelu(step(node, "act", IntegerGelu), device), fc2, two,
    )  # fmt: skip

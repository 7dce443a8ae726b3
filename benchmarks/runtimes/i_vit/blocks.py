"""A block's nodes in their integer form to what its kernels are given."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import nn

from vitq.benchmarks.runtimes.i_vit import parts
from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS
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


def softmax(node: IntegerSoftmax) -> parts.Softmax:
    """Shiftmax to 8 bits, or another whose exponential is a table of the distance to the largest logit."""
    down = -torch.arange(DIFFERENCES)
    constants = tuple(int(c) for c in node.constants())
    if node.bits != 8:
        raise UnsupportedError(f"the engine serves probabilities of 8 bits, not {node.bits}")
    if node.operator == ablations.SOFTMAX["polynomial"]:
        return parts.Softmax(1, 0, False, ablations.polynomial_exp(down, constants).numpy())
    if node.operator != ablations.SOFTMAX["shiftmax"]:
        raise UnsupportedError("the engine serves Shiftmax and the polynomial softmax")
    one = constants[0]
    table = operators_paper.shift_exp(down, one, operators_paper.SOFTMAX_SHIFT).numpy()
    magic = 2**20 // one + 1
    power = (-(down + (down >> 1) - (down >> 4))).numpy()
    exact = bool(((power * magic) >> 20 == power // one).all() and (power * magic).max() < 2**31)
    return parts.Softmax(one, magic, exact and one < 2**16, table)


def gelu(node: IntegerGelu) -> parts.Array:
    """The GELU of a code in a row whose largest code is m, as uint8 [m + 128, code + 128], by the node itself."""
    codes = torch.arange(-128, 128)
    rows = torch.minimum(codes[None, :], codes[:, None]).to(torch.int8)
    requantization(node.out)
    table: parts.Array = (node(rows).to(torch.int32) + 128).to(torch.uint8).numpy()
    return np.ascontiguousarray(table).reshape(-1)


def norm(node: IntegerLayerNorm) -> parts.Norm:
    """I-LayerNorm to 8 bits."""
    if node.operator != ablations.NORM["integer"] or node.bits != 8:
        raise UnsupportedError("the engine serves I-LayerNorm to 8 bits")
    return parts.norm_of(node)


def linear(node: IntegerLinear) -> tuple[parts.Product, parts.Scale]:
    """A linear layer and its requantization to 8 bits."""
    return parts.product_of(node), parts.scale_of(requantization(node.out), node.weight.shape[0])


def accumulating(node: IntegerLinear) -> parts.Product:
    """A linear layer whose accumulators flow on."""
    if node.out is not None:
        raise UnsupportedError("the engine serves residual branches that are accumulators")
    return parts.product_of(node)


def addition(node: IntegerAdd, channels: int) -> tuple[parts.Scale, parts.Scale, int]:
    """Dyadic numbers of the branch and of the stream, and the largest sum."""
    return parts.scale_of(node.left, channels), parts.scale_of(node.right, 1), 2 ** (node.bits - 1) - 1


def block_of(block: Block) -> parts.Block:
    """A block of ViT or DeiT; UnsupportedError for what the engine has no kernel of."""
    if "bias_add" in block.steps or "mask" in block.steps or block.windows is not None:
        raise UnsupportedError("the engine serves attention over all tokens, without windows or a bias of positions")
    qkv, qkv_scale = linear(step(block, "qkv", IntegerLinear))
    fc1, fc1_scale = linear(step(block, "fc1", IntegerLinear))
    qk, av = (requantization(step(block, name, IntegerMatMul).out) for name in ("qk", "av"))
    proj, fc2 = (accumulating(step(block, name, IntegerLinear)) for name in ("proj", "fc2"))
    one, two = (addition(step(block, name, IntegerAdd), proj.columns) for name in ("add1", "add2"))
    if qkv.columns != 3 * proj.columns or proj.columns % (4 * block.heads):
        raise UnsupportedError("the engine serves heads whose channels are a multiple of four and fill the width")
    return parts.Block(
        norm(step(block, "norm1", IntegerLayerNorm)), qkv, qkv_scale, parts.scale_of(qk, COLUMNS),
        softmax(step(block, "softmax", IntegerSoftmax)), parts.scale_of(av, COLUMNS), proj, *one,
        norm(step(block, "norm2", IntegerLayerNorm)), fc1, fc1_scale, gelu(step(block, "act", IntegerGelu)), fc2, *two,
    )  # fmt: skip

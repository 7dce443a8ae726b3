"""A block's nodes in their integer form to what its kernels are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.i_vit import parts
from vitq.benchmarks.runtimes.i_vit.vector import COLUMNS, ROWS
from vitq.errors import UnsupportedError
from vitq.methods.i_vit import ablations, operators_paper
from vitq.methods.i_vit.blocks import Block, Steps
from vitq.methods.i_vit.gelu import IntegerGelu
from vitq.methods.i_vit.grids import Requantize
from vitq.methods.i_vit.layernorm import IntegerLayerNorm
from vitq.methods.i_vit.linear import IntegerLinear
from vitq.methods.i_vit.mask import IntegerMask
from vitq.methods.i_vit.matmul import IntegerMatMul
from vitq.methods.i_vit.softmax import IntegerSoftmax
from vitq.methods.i_vit.sums import IntegerAdd, IntegerAddConstant

Kind = TypeVar("Kind", bound=nn.Module)
DIFFERENCES = 256
"""How far an INT8 logit can lie below the largest, and one more."""
FARTHEST = 2**20
"""How far a masked token can be moved away where its exponential is not 0."""


def step(steps: Steps, name: str, kind: type[Kind]) -> Kind:
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


def softmax(node: IntegerSoftmax, tokens: int, masked: int = 0) -> parts.Softmax:
    """Shiftmax, or another whose exponential is a table of the distance to the largest logit, over rows of tokens.

    `masked` (0 or negative) is what joins the logit of a masked token.
    """
    constants = tuple(int(c) for c in node.constants())
    if node.operator == ablations.SOFTMAX["polynomial"]:
        one, table, apart = 1, *_table(lambda down: ablations.polynomial_exp(down, constants), masked)
        return parts.Softmax(one, 0, False, node.bits, apart, table)
    if node.operator != ablations.SOFTMAX["shiftmax"]:
        raise UnsupportedError("the engine serves Shiftmax and the polynomial softmax")
    one = constants[0]
    table, apart = _table(lambda down: operators_paper.shift_exp(down, one, operators_paper.SOFTMAX_SHIFT), masked)
    down = -torch.arange(DIFFERENCES)
    magic = 2**20 // one + 1
    power = (-(down + (down >> 1) - (down >> 4))).numpy()
    exact = bool(((power * magic) >> 20 == power // one).all() and (power * magic).max() < 2**31)
    narrow = exact and apart == 0 and one < 2**16 and one * tokens < 2**17  # a row's exponentials fit 32 bits
    return parts.Softmax(one, magic, narrow, node.bits, apart, table)


def _table(exponential: Callable[[Tensor], Tensor], masked: int) -> tuple[parts.Array, int]:
    """Exponentials of the distances 0, 1, ... to the largest logit, and how far a masked token is moved away.

    That is 0 where no masked token can be the largest and the exponential of every masked one is 0.
    """
    apart = torch.arange(1 - DIFFERENCES, DIFFERENCES) - masked
    gone = not masked or (-masked >= DIFFERENCES and not exponential(-apart).any())
    if not gone and -masked > FARTHEST:
        raise UnsupportedError("the engine serves masked tokens that are near or of no weight")
    size = DIFFERENCES + (0 if gone else -masked)
    table: parts.Array = exponential(-torch.arange(size)).numpy()
    return table, 0 if gone else -masked


def gelu(node: IntegerGelu) -> parts.Array:
    """The GELU of a code in a row whose largest code is m, as uint8 [m + 128, code + 128], by the node itself."""
    codes = torch.arange(-128, 128)
    rows = torch.minimum(codes[None, :], codes[:, None]).to(torch.int8)
    requantization(node.out)
    table: parts.Array = (node(rows).to(torch.int32) + 128).to(torch.uint8).numpy()
    return np.ascontiguousarray(table).reshape(-1)


def norm(node: IntegerLayerNorm, bits: int = 8) -> parts.Norm:
    """I-LayerNorm to codes of this width."""
    if node.operator != ablations.NORM["integer"] or node.bits != bits:
        raise UnsupportedError(f"the engine serves I-LayerNorm to {bits} bits here")
    return parts.norm_of(node)


def linear(node: IntegerLinear) -> tuple[parts.Product, parts.Scale]:
    """A linear layer and its requantization to 8 bits."""
    return parts.product_of(node), parts.scale_of(requantization(node.out), node.weight.shape[0])


def accumulating(node: IntegerLinear) -> parts.Product:
    """A linear layer whose accumulators flow on."""
    if node.out is not None:
        raise UnsupportedError("the engine serves residual branches that are accumulators")
    return parts.product_of(node)


def _bias(node: IntegerAddConstant, heads: int, tokens: int) -> parts.Array:
    """A relative-position bias as int8 [heads, panels, rows, 64], rows padded to whole tiles, columns to panels."""
    if node.bits != 8:
        raise UnsupportedError("the engine serves a bias of positions in 8 bits")
    given = node.arrange(node.codes).reshape(heads, tokens, tokens).to(torch.int8).numpy()
    wide, tall = parts.padded(tokens, COLUMNS), parts.padded(tokens, ROWS)
    found = np.zeros((heads, tall, wide), np.int8)
    found[:, :tokens, :tokens] = given
    return np.ascontiguousarray(found.reshape(heads, tall, -1, COLUMNS).transpose(0, 2, 1, 3)).reshape(-1)


def attention(block: Block, tokens: int) -> parts.Attention:
    """The attention of a block over rows of so many tokens."""
    qk, av = step(block, "qk", IntegerMatMul), step(block, "av", IntegerMatMul)
    masked = int(step(block, "mask", IntegerMask).code) if "mask" in block.steps else 0
    soft = softmax(step(block, "softmax", IntegerSoftmax), tokens, masked)
    if soft.bits not in (8, 16) or av.bits != (soft.bits, 8):
        raise UnsupportedError(f"the engine serves probabilities of 8 and 16 bits, not {soft.bits}")
    mixed = parts.scale_of(requantization(av.out), COLUMNS)
    if "bias_add" not in block.steps:
        logits = parts.scale_of(requantization(qk.out), COLUMNS)
        return parts.Attention(logits, soft, mixed, False, np.zeros(0, np.int8))
    add = step(block, "bias_add", IntegerAddConstant)
    if qk.out is not None:
        raise UnsupportedError("the engine serves a bias of positions that joins accumulators")
    return parts.Attention(parts.scale_of(add.left, COLUMNS), soft, mixed, True, _bias(add, block.heads, tokens))


def block_of(block: Block, tokens: int) -> parts.Block:
    """A block whose attention is over rows of so many tokens; UnsupportedError for what the engine has no kernel of."""
    qkv, qkv_scale = linear(step(block, "qkv", IntegerLinear))
    fc1, fc1_scale = linear(step(block, "fc1", IntegerLinear))
    proj, fc2 = (accumulating(step(block, name, IntegerLinear)) for name in ("proj", "fc2"))
    one, two = (
        parts.join_of(step(block, add, IntegerAdd), product, step(block, layer, IntegerLinear))
        for add, product, layer in (("add1", proj, "proj"), ("add2", fc2, "fc2"))
    )
    if qkv.columns != 3 * proj.columns or proj.columns % (4 * block.heads):
        raise UnsupportedError("the engine serves heads whose channels are a multiple of four and fill the width")
    return parts.Block(
        norm(step(block, "norm1", IntegerLayerNorm)), qkv, qkv_scale, attention(block, tokens), proj, one,
        norm(step(block, "norm2", IntegerLayerNorm)), fc1, fc1_scale, gelu(step(block, "act", IntegerGelu)), fc2, two,
    )  # fmt: skip

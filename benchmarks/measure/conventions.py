"""How papers count: the definitions of BitOPs and OPs, and each paper's own convention for sizes and ratios, named.

Everything is computed from module paths, parameters and operand widths; no figure of a paper is stored here. All sizes
are MB of 10^6 bytes, all counts are per image.

Size, for every model (`block_weights` and `bitops_ends_8bit` where an adapter knows blocks and ends):
    params_x_bits: I-ViT's Table 1: parameters rounded to millions, times the weight width in bytes; no scales. It
        does not say how it rounds, and its DeiT rows are cut off, its Swin rows rounded up: here to the nearest.
    params_x_32: the same in floating point.
    block_weights: weights of the products in the transformer's blocks and mergings alone, at their own width.
Size, where products are binary:
    no_block_bias_no_scale: BiViT's: binary weights, everything else FP32, without biases of binary layers and scales.
    no_block_bias_no_scale_no_position: BinaryViT's, as its 16.2x is to be read: positions and class token left out too.
    every_parameter: every parameter of the FP model, those of binary products at their width and the rest FP32.
    model_size_ratio: FP32 MB over no_block_bias_no_scale_no_position (BinaryViT's 16.2x).
    model_size_ratio_every_parameter: FP32 MB over every_parameter.
    model_size_ratio_packed: FP32 MB over what really ships, the method's own scales and shifts included.
Operations, for every model:
    bitops_ends_8bit: BitOPs with patch embedding and classifier at 8 x 8 bit, whatever the method does with them; a
        detector's neck and heads are counted as they are.
Operations, where products are binary:
    ops_ratio: MACs of the FP model over OPs.
    ops_ratio_mixed_units: the same with 2 operations a MAC in the binary model, 1 in the FP model (BinaryViT's 17.7x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from vitq.methods.architectures.roles import Roles
from vitq.methods.bits import Bits
from vitq.record import Operations, Size

Where = Literal["end", "transformer", "beside"]
"""Where a product stands: in the transformer's blocks and mergings, at its two ends (patch embedding and classifier),
or beside it (a detector's neck and heads)."""


class Product(NamedTuple):
    """A product by its module's path: MACs, widths of its operands, and the FP model's weight and bias elements."""

    path: str
    macs: int
    left_bits: float
    right_bits: float
    weight: int
    bias: int
    where: Where = "transformer"

    @property
    def end(self) -> bool:
        """Whether this is the patch embedding or the classifier, which most papers leave at a higher width."""
        return self.where == "end"

    @property
    def quantized(self) -> bool:
        """Whether both operands are quantized; with one of them in FP, a multiplier computes in FP."""
        return max(self.left_bits, self.right_bits) < 32

    @property
    def binary(self) -> bool:
        """Whether both operands have one bit."""
        return (self.left_bits, self.right_bits) == (1, 1)


def bitops(products: Sequence[Product]) -> float:
    """Sum of MACs * b_left * b_right; FP operands have 32 bits."""
    return sum(p.macs * p.left_bits * p.right_bits for p in products)


def ops(products: Sequence[Product]) -> float:
    """BOPs/64 + FLOPs; see `accounting` for the sources."""
    return bitops([p for p in products if p.quantized]) / 64 + sum(p.macs for p in products if not p.quantized)


def position_parameters(roles: Roles) -> int:
    """Elements of position embeddings, class tokens and relative position bias tables."""
    at = roles.embedding
    tables = [attention.table for attention in roles.attentions]
    paths = [at.positions, at.class_token, *at.further_tokens, *tables]
    return sum(roles.model.get_parameter(path).numel() for path in paths if path is not None)


def where(roles: Roles, path: str) -> Where:
    """Where the product of a path stands."""
    inner = [block.path for block in roles.blocks] + [merging.path for merging in roles.mergings]
    if any(path.startswith(f"{each}.") for each in inner):
        return "transformer"
    of_whole = roles.whole is not None and path.startswith(f"{roles.whole}." if roles.whole else "")
    return "end" if of_whole or path in (roles.embedding.projection, roles.ends.head) else "beside"


def sizes(size: Size, products: Sequence[Product], roles: Roles, bits: Bits) -> dict[str, float]:
    """Size by every convention that says something about this model; `roles` are those of the FP model."""
    blocks = [p for p in products if p.where == "transformer"]
    millions = round(size.params / 1e6)
    known = {"params_x_bits": millions * bits.w / 8, "params_x_32": millions * 4.0}
    if roles.blocks:
        known["block_weights"] = sum(p.weight * p.right_bits for p in blocks) / 8e6
    return known | (_binary_sizes(size, products, roles) if any(p.binary for p in products) else {})


def _binary_sizes(size: Size, products: Sequence[Product], roles: Roles) -> dict[str, float]:
    binary = [p for p in products if p.binary]
    saved = sum(p.weight * (32 - p.right_bits) for p in binary) / 8e6
    every = size.params * 4 / 1e6 - saved
    bivit = every - sum(p.bias for p in binary) * 4 / 1e6
    binary_vit = bivit - position_parameters(roles) * 4 / 1e6
    return {
        "no_block_bias_no_scale": bivit,
        "no_block_bias_no_scale_no_position": binary_vit,
        "every_parameter": every,
        "model_size_ratio": size.fp32_mb / binary_vit,
        "model_size_ratio_every_parameter": size.fp32_mb / every,
        "model_size_ratio_packed": size.fp32_mb / size.packed_mb,
    }


def operations(counted: Operations, products: Sequence[Product]) -> dict[str, float]:
    """Operations by every convention that says something about this model."""
    ends_8bit = [p._replace(left_bits=8, right_bits=8) if p.end else p for p in products]
    known = {"bitops_ends_8bit": float(bitops(ends_8bit))} if any(p.end for p in products) else {}
    if any(p.binary for p in products):
        known |= {"ops_ratio": counted.macs / counted.ops, "ops_ratio_mixed_units": counted.macs / (2 * counted.ops)}
    return known

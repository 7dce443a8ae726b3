"""The integer form's two ends and its products: INT8 operands, INT32 accumulators."""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.i_vit import operators_paper, products
from vitq.methods.i_vit.integer_grids import IntegerNode, after


class ImageIn(IntegerNode):
    """Float image to int8 codes."""

    scale: Tensor

    def __init__(self, node: products.Input) -> None:
        super().__init__()
        self.register_buffer("scale", node.out.scale)

    def forward(self, image: Tensor) -> Tensor:
        """round(x/S) clamped, int8."""
        return torch.round(image / self.scale).clamp(-128, 127).to(torch.int8)


class LogitsOut(IntegerNode):
    """INT32 logits to real ones: a single scale, so the integers already have their order."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, codes: Tensor) -> Tensor:
        """codes * S."""
        return codes * self.scale


class IntegerLinear(IntegerNode):
    """INT8 linear layer or patch embedding with INT32 bias."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, node: products.Linear) -> None:
        super().__init__()
        codes, scale = node.weight_grid(node.in_scales[0])
        scale = scale * node.in_scales[0]
        bias = node.bias_codes(scale)
        self.patches = node.patches
        self.register_buffer("weight", codes.to(torch.int8))
        self.register_buffer("bias", None if bias is None else bias.to(torch.int32))
        self.out = after(node.out, scale)

    def forward(self, codes: Tensor) -> Tensor:
        """int8 to the output's codes, or to int32 accumulators where a residual sum takes them."""
        apply = operators_paper.convolution if self.patches else operators_paper.linear
        acc = apply(codes, self.weight, self.bias)
        return acc if self.out is None else self.out(acc)

    def operand_bits(self) -> tuple[int, int]:
        """(input, weight)."""
        return 8, 8


class IntegerMatMul(IntegerNode):
    """Attention product of int8 codes, or of 16-bit probabilities and int8 codes."""

    def __init__(self, node: products.MatMul) -> None:
        super().__init__()
        self.bits = node.bits
        self.out = after(node.out, node.in_scales[0] * node.in_scales[1] * node.factor)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[..., n, k] @ [..., k, m]."""
        apply = operators_paper.wide_product if self.bits[0] > 8 else operators_paper.product
        acc = apply(left, right)
        return acc if self.out is None else self.out(acc)

    def operand_bits(self) -> tuple[int, int]:
        """(left, right)."""
        return self.bits

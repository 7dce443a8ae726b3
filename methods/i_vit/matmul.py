"""The two products of attention, Q·K^T and probabilities times values, on INT8 codes (paper, Section 3.2).

I_y = I_l @ I_r,   S_y = S_l * S_r * factor   (the factor is 1/sqrt(d) for Q·K^T)
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.i_vit import operators_paper
from vitq.methods.i_vit.forms import Forms, Width
from vitq.methods.i_vit.grids import Output, Scaled, after
from vitq.methods.i_vit.nodes import IntegerNode, Node, dyadics
from vitq.methods.toolkit.stored import Packed


class MatMul(Node):
    """The product of two activations times `factor`, which only enters the scale."""

    def __init__(
        self, bits: tuple[int, int], width: Width | None, factor: float, forms: Forms, device: torch.device
    ) -> None:
        super().__init__(forms)
        self.bits, self.factor, self.exact = bits, factor, forms.paper("activations")
        self.out = None if width is None else Output(width, forms, device)

    def forward(self, left: Scaled, right: Scaled) -> Scaled:
        """[..., n, k] @ [..., k, m] -> [..., n, m]."""
        self.note(left, right)
        acc, scale = (left.value / left.scale) @ (right.value / right.scale), left.scale * right.scale
        if self.exact:
            scale = scale * self.factor
            y = Scaled(acc * scale, scale)
        else:  # the released code multiplies value and scale by 1/sqrt(d) after the product, which rounds once more
            y = Scaled(acc * scale * self.factor, scale * self.factor)
        return y if self.out is None else self.out(y)

    def operand_bits(self) -> tuple[int, int]:
        """(left, right)."""
        return self.bits

    def integer(self) -> IntegerMatMul:
        """Its integer form."""
        return IntegerMatMul(self)

    def shipped(self) -> list[Packed]:
        """One dyadic number, unless a sum takes the accumulators."""
        return dyadics(self.out)


class IntegerMatMul(IntegerNode):
    """Attention product of int8 codes, or of 16-bit probabilities and int8 codes."""

    def __init__(self, node: MatMul) -> None:
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

"""The integer form's sums: residuals, learnt constants, the class token, Swin's mask and the mean over positions."""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.i_vit import sums
from vitq.methods.i_vit.integer_grids import IntegerNode, Requantize, after, narrow

SUM_HEADROOM = 6
"""An operand of a sum saturates this many bits above the sum, 31 at most."""


def _clamped(total: Tensor, bits: int) -> Tensor:
    return narrow(total.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1), bits)


class IntegerAdd(IntegerNode):
    """Sum of two integers on grids of their own."""

    def __init__(self, node: sums.Add) -> None:
        super().__init__()
        self.bits = node.out.width.bits
        out, operand_bits = node.out.scale.double(), min(self.bits + SUM_HEADROOM, 31)
        self.left, self.right = (
            Requantize(scale.double() / out, operand_bits, node.out.plan.rounding) for scale in node.in_scales
        )

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Broadcasting sum."""
        return _clamped(self.left.wide(left) + self.right.wide(right), self.bits)


class IntegerAddConstant(IntegerNode):
    """An integer plus a learnt constant on the sum's grid."""

    codes: Tensor

    def __init__(self, node: sums.AddConstant) -> None:
        super().__init__()
        self.bits = node.out.width.bits
        ratio = node.in_scales[0].double() / node.out.scale.double()
        self.left = Requantize(ratio, min(self.bits + SUM_HEADROOM, 31), node.out.plan.rounding)
        self.arrange = node.arrange
        self.register_buffer("codes", narrow(node.constant_codes(node.value), self.bits))

    def forward(self, codes: Tensor) -> Tensor:
        """Broadcasting sum."""
        return _clamped(self.left.wide(codes) + self.arrange(self.codes), self.bits)


class IntegerClassToken(IntegerNode):
    """The class token as integers on the patches' grid."""

    token: Tensor

    def __init__(self, node: sums.ClassToken) -> None:
        super().__init__()
        limit = 2.0**30
        codes = torch.round(node.token.detach() / node.in_scales[0]).clamp(-limit, limit)
        self.register_buffer("token", codes.to(torch.int32))

    def forward(self, codes: Tensor) -> Tensor:
        """[B, N, C] -> [B, 1+N, C]."""
        return torch.cat([self.token.expand(codes.shape[0], -1, -1), codes.to(torch.int32)], 1)


class IntegerPool(IntegerNode):
    """Sum over positions; the division by their number is in the dyadic number."""

    def __init__(self, node: sums.Pool, count: int) -> None:
        super().__init__()
        self.out = after(node.out, node.in_scales[0] / count)

    def forward(self, codes: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, C]."""
        assert self.out is not None
        return self.out(codes.to(torch.int32).sum((1, 2), dtype=torch.int32))  # type: ignore[no-any-return]


class IntegerMask(IntegerNode):
    """Swin's mask on the logits' grid: one integer, added where the architecture masks."""

    code: Tensor
    masked: Tensor

    def __init__(self, node: sums.Mask) -> None:
        super().__init__()
        self.register_buffer("code", node.code(node.in_scales[0]).to(torch.int32))
        self.register_buffer("masked", node.mask != 0, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """[B*windows, heads, n, n] int8 -> int32."""
        windows, n = self.masked.shape[0], self.masked.shape[1]
        split = codes.to(torch.int32).reshape(-1, windows, codes.shape[1], n, n)
        return (split + self.code * self.masked[:, None]).reshape(codes.shape)

"""The mean over positions, whose division is part of the dyadic number after it: I_y = DN(S / (n * S_y)) * sum I."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Output, Scaled, after
from vitq.methods.i_vit.nodes import IntegerNode, Node, dyadics
from vitq.methods.toolkit.stored import Packed


class Pool(Node):
    """The mean over positions, requantized to 8 bits."""

    def __init__(self, forms: Forms, device: torch.device) -> None:
        super().__init__(forms)
        self.out = Output(forms.activation, forms, device)
        self.count = 0

    def forward(self, x: Scaled) -> Scaled:
        """[B, H, W, C] -> [B, C]."""
        self.note(x)
        self.count = math.prod(x.value.shape[1:3])
        if not self.out.paper:
            mean = F.adaptive_avg_pool1d(x.value.flatten(1, 2).transpose(1, 2), 1).squeeze(-1)
            return self.out(Scaled(mean, x.scale))  # type: ignore[no-any-return]
        scale = x.scale / self.count
        return self.out(Scaled((x.value / x.scale).sum((1, 2)) * scale, scale))  # type: ignore[no-any-return]

    def integer(self) -> IntegerPool:
        """Its integer form."""
        return IntegerPool(self, self.count)

    def shipped(self) -> list[Packed]:
        """One dyadic number."""
        return dyadics(self.out)


class IntegerPool(IntegerNode):
    """Sum over positions; the division by their number is in the dyadic number."""

    def __init__(self, node: Pool, count: int) -> None:
        super().__init__()
        self.out = after(node.out, node.in_scales[0] / count)

    def forward(self, codes: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, C]."""
        assert self.out is not None
        return self.out(codes.to(torch.int32).sum((1, 2), dtype=torch.int32))  # type: ignore[no-any-return]

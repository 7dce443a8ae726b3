"""GELU: ShiftGELU (paper, Section 3.4, Algorithm 2), or what an ablation puts in its place, and a requantization.

GELU(x) ~ x * sigmoid(1.702 x);   I_p = I + (I >> 1) + (I >> 3) + (I >> 4)
I_y = I * IntDiv(ShiftExp(I_p - m), ShiftExp(I_p - m) + ShiftExp(-m)),   m = max(I_p, 0),   S_y = S / 2^(k-1)
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.ablations import GELU
from vitq.methods.i_vit.constants import WithConstants
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Output, Scaled, after
from vitq.methods.i_vit.nodes import Node, dyadics
from vitq.methods.i_vit.operators_release import straight_through
from vitq.methods.toolkit.stored import Packed


class Gelu(Node):
    """ShiftGELU or what an ablation puts in its place."""

    def __init__(self, forms: Forms, device: torch.device) -> None:
        super().__init__(forms)
        self.operator = GELU[forms.gelu]
        self.release = forms.gelu == "shift" and not forms.paper("gelu")
        self.out = Output(forms.activation, forms, device)

    def forward(self, x: Scaled) -> Scaled:
        """Elementwise, but for the maximum over the last dimension that ShiftGELU subtracts."""
        self.note(x)
        if self.release:
            codes, scale = release.shift_gelu(x.value / x.scale, x.scale)
            return self.out(Scaled(codes * scale, scale))  # type: ignore[no-any-return]
        with torch.no_grad():
            codes = self.operator.apply(x.codes(), self.operator.constants(float(x.scale)), 8).float()
            scale = torch.full_like(x.scale, self.operator.out_scale(float(x.scale), 8))
        if torch.is_grad_enabled():
            smooth = x.value * torch.sigmoid(1.702 * x.value)
            return self.out(Scaled(straight_through(codes * scale, smooth), scale))  # type: ignore[no-any-return]
        return self.out(Scaled(codes * scale, scale))  # type: ignore[no-any-return]

    def integer(self) -> IntegerGelu:
        """Its integer form."""
        return IntegerGelu(self)

    def shipped(self) -> list[Packed]:
        """The operator's integer constants and the requantization."""
        return [Packed("constants", len(self.operator.constants(1.0)), 64), *dyadics(self.out)]


class IntegerGelu(WithConstants):
    """ShiftGELU or its replacement."""

    def __init__(self, node: Gelu) -> None:
        super().__init__(node.operator, node.in_scales[0])
        scale = node.in_scales[0]
        worth = torch.full_like(scale, node.operator.out_scale(float(scale), 8))
        self.out = after(node.out, worth)

    def forward(self, codes: Tensor) -> Tensor:
        """int8 to int8."""
        assert self.out is not None
        return self.out(self.operator.apply(codes.to(torch.int64), self.constants(), 8))  # type: ignore[no-any-return]

"""Softmax over the last dimension: Shiftmax (paper, Section 3.3, Algorithm 1), or what an ablation puts in its place.

I_p = I + (I >> 1) - (I >> 4) of I <= 0,   I_exp = (((-r) >> 1) + I_0) << (N - q)   with -I_p = q * I_0 + r
I_y = (floor(2^M / sum I_exp) * I_exp) >> (M - (k - 1)),   S_y = 1 / 2^(k-1)
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.errors import UnsupportedError
from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.ablations import SOFTMAX
from vitq.methods.i_vit.bounds import MAX_TOKENS
from vitq.methods.i_vit.constants import WithConstants
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Scaled, narrow
from vitq.methods.i_vit.nodes import Node
from vitq.methods.i_vit.operators_release import straight_through
from vitq.methods.toolkit.stored import Packed


class Softmax(Node):
    """Shiftmax or what an ablation puts in its place, over the last dimension."""

    def __init__(self, forms: Forms, windowed: bool) -> None:
        super().__init__(forms)
        self.bits, self.operator = forms.probability_bits(windowed), SOFTMAX[forms.softmax]
        self.release = forms.softmax == "shiftmax" and not forms.paper("softmax")

    def forward(self, x: Scaled) -> Scaled:
        """Logits to probabilities of scale 1/2^(bits-1)."""
        _refuse_long(x.value)
        self.note(x)
        if self.release:
            codes, scale = release.shiftmax(x.value / x.scale, x.scale, self.bits)
            return Scaled(codes * scale, scale)
        with torch.no_grad():
            constants = self.operator.constants(float(x.scale))
            codes = self.operator.apply(x.codes(), constants, self.bits).float()
            scale = torch.full_like(x.scale, self.operator.out_scale(float(x.scale), self.bits))
        if torch.is_grad_enabled():
            return Scaled(straight_through(codes * scale, x.value.softmax(-1)), scale)
        return Scaled(codes * scale, scale)

    def integer(self) -> IntegerSoftmax:
        """Its integer form."""
        return IntegerSoftmax(self)

    def shipped(self) -> list[Packed]:
        """The operator's integer constants."""
        return [Packed("constants", len(self.operator.constants(1.0)), 64)]


class IntegerSoftmax(WithConstants):
    """Shiftmax or its replacement."""

    def __init__(self, node: Softmax) -> None:
        super().__init__(node.operator, node.in_scales[0])
        self.bits = node.bits

    def forward(self, codes: Tensor) -> Tensor:
        """Logit codes to probability codes, int8 or int16."""
        _refuse_long(codes)
        return narrow(self.operator.apply(codes.to(torch.int64), self.constants(), self.bits), self.bits)


def _refuse_long(rows: Tensor) -> None:
    if rows.shape[-1] > MAX_TOKENS:
        raise UnsupportedError(f"attention over {rows.shape[-1]} tokens: I-ViT's sums are proved for {MAX_TOKENS}")

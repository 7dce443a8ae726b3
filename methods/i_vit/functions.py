"""The trainable form's non-linear functions: softmax, GELU and LayerNorm, or what an ablation puts in their place.

Each computes in float32 what the integers would give; `integer_functions.py` holds their integer forms.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.ablations import GELU, NORM, SOFTMAX
from vitq.methods.i_vit.dyadic import Affine, affine, affine_requantize
from vitq.methods.i_vit.grids import Node, Output, Scaled, dyadics, fill
from vitq.methods.i_vit.operators_release import straight_through
from vitq.methods.i_vit.plan import Plan, Width
from vitq.methods.toolkit.layers import Packed, State


class Softmax(Node):
    """Shiftmax or what an ablation puts in its place, over the last dimension."""

    def __init__(self, plan: Plan, swin: bool) -> None:
        super().__init__(plan)
        self.bits, self.operator = plan.probability_bits(swin), SOFTMAX[plan.softmax]
        self.release = plan.softmax == "shiftmax" and not plan.paper("softmax")

    def forward(self, x: Scaled) -> Scaled:
        """Logits to probabilities of scale 1/2^(bits-1)."""
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

    def shipped(self) -> list[Packed]:
        """The operator's integer constants."""
        return [Packed("constants", len(self.operator.constants(1.0)), 64)]


class Gelu(Node):
    """ShiftGELU or what an ablation puts in its place."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        super().__init__(plan)
        self.operator = GELU[plan.gelu]
        self.release = plan.gelu == "shift" and not plan.paper("gelu")
        self.out = Output(plan.activation, plan, device)

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

    def shipped(self) -> list[Packed]:
        """The operator's integer constants and the requantization."""
        return [Packed("constants", len(self.operator.constants(1.0)), 64), *dyadics(self.out)]


class Norm(Node):
    """I-LayerNorm with its affine part and requantization in one."""

    def __init__(self, layer: nn.LayerNorm, width: Width, plan: Plan) -> None:
        super().__init__(plan)
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps
        self.operator = NORM[plan.layernorm]
        self.release = plan.layernorm == "integer" and not plan.paper("layernorm")
        self.out = Output(width, plan, layer.weight.device)

    def constants(self) -> Affine:
        """gamma, beta and the output's scale as integers."""
        out = self.out.scale.double()
        worth = self.operator.unit(self.weight.numel())
        return affine(self.weight.detach().double() * worth / out, self.bias.detach().double() / out)

    def forward(self, x: Scaled) -> Scaled:
        """[..., C] -> [..., C]; the scale of x is a scalar."""
        self.note(x)
        if self.release:
            return self._release(x)
        graph = torch.is_grad_enabled()
        smooth = F.layer_norm(x.value, self.weight.shape, self.weight, self.bias, self.eps) if graph else None
        with torch.no_grad():
            y = self._integer(x)
        return y if smooth is None else Scaled(straight_through(y.value, smooth), y.scale)

    def _release(self, x: Scaled) -> Scaled:
        codes, scale = release.layer_norm(x.value / x.scale, self.weight, self.bias)
        return self.out(Scaled(codes * scale, scale))  # type: ignore[no-any-return]

    def _integer(self, x: Scaled) -> Scaled:
        codes = self.operator.apply(x.codes())
        self.out.watch(codes * self.operator.unit(codes.shape[-1]) * self.weight + self.bias)
        out = affine_requantize(codes, self.constants(), self.out.width.bits, self.plan.rounding)
        return Scaled(out * self.out.scale, self.out.scale)

    def kept(self) -> State:
        """gamma and beta."""
        return {"weight": self.weight.detach(), "bias": self.bias.detach()}

    def take(self, state: dict[str, Tensor]) -> None:
        """gamma and beta."""
        fill(self.weight, state["weight"])
        fill(self.bias, state["bias"])

    def shipped(self) -> list[Packed]:
        """An int32 multiplier and an int64 bias a channel, one shift."""
        channels = self.weight.numel()
        return [Packed("multiplier", channels, 32), Packed("bias", channels, 64), Packed("shift", 1, 8)]

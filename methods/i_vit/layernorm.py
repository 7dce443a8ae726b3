"""LayerNorm: I-LayerNorm (paper, Section 3.5), or the L1 norm of the ablation, with affine part and requantization.

I_n = (I - mean) / sqrt(sum (I - mean)^2),   y = sqrt(C) * I_n * gamma + beta
the root of V by steps O <- (O + floor(V / O)) >> 1
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.ablations import NORM, IntegerNorm
from vitq.methods.i_vit.dyadic import Affine, affine, affine_requantize
from vitq.methods.i_vit.forms import Forms, Width
from vitq.methods.i_vit.grids import Output, Scaled, narrow
from vitq.methods.i_vit.nodes import IntegerNode, Node, fill
from vitq.methods.i_vit.operators_release import straight_through
from vitq.methods.toolkit.stored import Packed, State


class LayerNorm(Node):
    """I-LayerNorm with its affine part and requantization in one."""

    def __init__(self, layer: nn.LayerNorm, width: Width, forms: Forms) -> None:
        super().__init__(forms)
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps
        self.operator = NORM[forms.layernorm]
        self.release = forms.layernorm == "integer" and not forms.paper("layernorm")
        self.out = Output(width, forms, layer.weight.device)

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
        out = affine_requantize(codes, self.constants(), self.out.width.bits, self.forms.rounding)
        return Scaled(out * self.out.scale, self.out.scale)

    def kept(self) -> State:
        """gamma and beta."""
        return {"weight": self.weight.detach(), "bias": self.bias.detach()}

    def take(self, state: dict[str, Tensor]) -> None:
        """gamma and beta."""
        fill(self.weight, state["weight"])
        fill(self.bias, state["bias"])

    def integer(self) -> IntegerLayerNorm:
        """Its integer form."""
        return IntegerLayerNorm(self)

    def shipped(self) -> list[Packed]:
        """An int32 multiplier and an int64 bias a channel, one shift."""
        channels = self.weight.numel()
        return [Packed("multiplier", channels, 32), Packed("bias", channels, 64), Packed("shift", 1, 8)]


class IntegerLayerNorm(IntegerNode):
    """I-LayerNorm with gamma and beta as integers."""

    multiplier: Tensor
    bias: Tensor
    shift: Tensor

    def __init__(self, node: LayerNorm) -> None:
        super().__init__()
        constants = node.constants()
        for name, value in constants._asdict().items():
            self.register_buffer(name, value)
        self.operator: IntegerNorm = node.operator
        self.bits, self.rounding = node.out.width.bits, node.forms.rounding

    def forward(self, codes: Tensor) -> Tensor:
        """[..., C] to the output's codes."""
        normal = self.operator.apply(codes.to(torch.int64))
        constants = Affine(self.multiplier, self.bias, self.shift)
        return narrow(affine_requantize(normal, constants, self.bits, self.rounding), self.bits)

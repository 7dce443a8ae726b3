"""Linear layers and patch embedding: INT8 weights a channel, INT32 bias and accumulators (paper, Section 3.2).

I_y = sum_i I_w * I_x + round(b / (S_w * S_x)),   S_y = S_w * S_x
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.methods.i_vit import operators_paper
from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.forms import Forms, Width
from vitq.methods.i_vit.grids import EPSILON, Output, Scaled, after, grid_scale, quantize
from vitq.methods.i_vit.nodes import IntegerNode, Node, dyadics, fill
from vitq.methods.i_vit.operators_release import straight_through
from vitq.methods.toolkit.stored import Codes, Packed, State


class Linear(Node):
    """Linear layer or patch embedding: INT8 weights a channel, INT32 bias, INT32 accumulators.

    `fixed_scale` is the weight's scale in a restored model, whose weight holds the values of its codes; None elsewhere.
    """

    fixed_scale: Tensor | None

    def __init__(self, layer: nn.Linear | nn.Conv2d, width: Width | None, forms: Forms) -> None:
        super().__init__(forms)
        self.weight, self.bias, self.exact = layer.weight, layer.bias, forms.paper("weights")
        self.patches = isinstance(layer, nn.Conv2d)
        self.out = None if width is None else Output(width, forms, layer.weight.device)
        self.register_buffer("fixed_scale", None)

    def weight_grid(self, in_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of the weight (float32, with straight-through gradient) and the scale [out].

        In the paper's arithmetic the scale is large enough for the bias to fit INT32 with `in_scale`, which matters
        where a channel's weights, or the inputs, are almost or altogether zero.
        """
        if self.fixed_scale is not None and not self.weight.requires_grad:
            return quantize(self.weight, self._over_channels(self.fixed_scale), 8, self.exact), self.fixed_scale
        if not self.exact:
            return release.weight_codes(self.weight)
        scale = grid_scale(self.weight.detach().flatten(1).abs().amax(1), Width(8, 8), paper=True)
        if self.bias is not None:
            scale = torch.maximum(scale, self.bias.detach().abs() / in_scale / (self._bias_limit / (1 + EPSILON)))
        shaped = self._over_channels(scale)
        return straight_through(quantize(self.weight, shaped, 8, paper=True), self.weight / shaped), scale

    @property
    def _bias_limit(self) -> float:
        return 2.0**31 - 1 - 2**14 * self.weight[0].numel()

    def _over_channels(self, scale: Tensor) -> Tensor:
        return scale.view(-1, *[1] * (self.weight.ndim - 1))

    def bias_codes(self, scale: Tensor) -> Tensor | None:
        """INT32 codes of the bias: in float32 in the released code.

        In the paper's arithmetic in float64, which holds them exactly, and held back from where the accumulator could
        overflow.
        """
        if self.bias is None:
            return None
        if not self.exact:
            return release.bias_codes(self.bias, scale)
        exact = self.bias.double() / scale.double()
        return straight_through(exact.round().clamp(-self._bias_limit, self._bias_limit), exact)

    def forward(self, x: Scaled) -> Scaled:
        """[..., in] -> [..., out], or [B, C, H, W] -> [B, H', W', out] for the patch embedding."""
        self.note(x)
        weight, w_scale = self.weight_grid(x.scale)
        scale = w_scale * x.scale
        bias = self.bias_codes(scale)
        bias = None if bias is None else bias.to(weight.dtype)
        codes = x.value / x.scale
        if self.patches:
            acc = F.conv2d(codes, weight, bias, stride=weight.shape[2:]).permute(0, 2, 3, 1)
        else:
            acc = F.linear(codes, weight, bias)
        y = Scaled(acc * scale, scale)
        return y if self.out is None else self.out(y)

    def operand_bits(self) -> tuple[int, int]:
        """(input, weight)."""
        return 8, 8

    def kept(self) -> State:
        """Codes of the weight, their scale a channel, and the bias in floating point."""
        codes, scale = self.weight_grid(self.in_scales[0] if self.in_scales else torch.ones_like(self.weight[0, 0]))
        bias: State = {} if self.bias is None else {"bias": self.bias.detach()}
        return {"weight": Codes(codes.detach().to(torch.int8), 8, signed=True), "scale": scale, **bias}

    def take(self, state: dict[str, Tensor]) -> None:
        """The weight becomes the values of its codes."""
        codes, scale = state["weight"].to(self.weight.device), state["scale"].to(self.weight.device)
        if scale.shape != self.weight.shape[:1]:
            raise ValueError(f"{scale.numel()} scales for {self.weight.shape[0]} channels")
        fill(self.weight, codes * self._over_channels(scale))
        self.fixed_scale = scale
        if self.bias is not None:
            fill(self.bias, state["bias"])

    def integer(self) -> IntegerLinear:
        """Its integer form."""
        return IntegerLinear(self)

    def shipped(self) -> list[Packed]:
        """Weight, bias, and a dyadic number a channel unless a residual sum takes the accumulators."""
        rows = self.weight.shape[0]
        bias = [] if self.bias is None else [Packed("bias", rows, 32)]
        return [Packed("weight", self.weight.numel(), 8), *bias, *dyadics(self.out, rows)]


class IntegerLinear(IntegerNode):
    """INT8 linear layer or patch embedding with INT32 bias."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, node: Linear) -> None:
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

"""LayerNorm in integers, after a grid with power-of-two factors (FQ-ViT, as its released code computes it)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitq.methods.toolkit.nodes import ActivationQuantizer

MULTIPLIER_BITS = 8
MOST_SHIFT = 31


class IntegerLayerNorm(nn.LayerNorm):
    """LayerNorm of q = (code - z) 2^alpha, whose result is on the steps of its output's grid.

    With s1 the least input scale, mu = s1 mean(q), sigma = (s1/C) sqrt(C sum(q^2) - (sum q)^2), without an epsilon.
    A = (s1/sigma) gamma/s_out by token and channel becomes an 8-bit multiplier and a shift:

        N = clamp(7 - floor(log2 |A|), 0, 31), M = clamp(floor(|A| 2^N), 0, 255)
        B = round((beta - (mu/sigma) gamma)/s_out 2^N), y = s_out round((sign(A) M q + B)/2^N)

    The released code gives NaN where sigma = 0, and where gamma = 0 takes the logarithm of zero; here tokens of one
    value give beta, and so does gamma = 0. The quantizer of the output clamps. Until that has a grid and is on, the
    norm is computed in floating point.
    """

    output_quantizer: ActivationQuantizer
    source: tuple[nn.Module]
    """What puts out the input; in a tuple, for it has its own place in the model."""

    @classmethod
    def of(cls, norm: nn.LayerNorm, source: nn.Module) -> IntegerLayerNorm:
        """Take over a norm's parameters; its input is on the grid of `source.output_quantizer`."""
        self = cls(list(norm.normalized_shape), norm.eps, elementwise_affine=False, device="meta")
        self.weight, self.bias, self.training = norm.weight, norm.bias, norm.training
        self.source = (source,)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        if self.output_quantizer.mode != "on":
            return super().forward(x)
        grid = self.source[0].output_quantizer
        assert isinstance(grid, ActivationQuantizer)
        self.output_quantizer.require_grid()
        return integer_layernorm(x, grid.scale.min(), self.weight, self.bias, self.output_quantizer.scale)


def integer_layernorm(x: Tensor, s1: Tensor, gamma: Tensor, beta: Tensor | None, s_out: Tensor) -> Tensor:
    """The formula of `IntegerLayerNorm` on x [..., C], multiples of s1; gamma and beta [C]. Sums are in float64."""
    q = (x / s1).round().double()
    channels, total = q.shape[-1], q.sum(-1, keepdim=True)
    sigma = s1 / channels * (channels * q.square().sum(-1, keepdim=True) - total.square()).clamp_min(0).sqrt()
    inverse = torch.where(sigma > 0, 1 / sigma, 0)
    a = s1 * inverse * gamma / s_out
    n = (MULTIPLIER_BITS - 1 - a.abs().log2().floor()).clamp(0, MOST_SHIFT)
    power = torch.exp2(n)
    m = (a.abs() * power).floor().clamp(0, 2**MULTIPLIER_BITS - 1)
    b = (((0 if beta is None else beta) - s1 * total / channels * inverse * gamma) / s_out * power).round()
    return (s_out * ((a.sign() * m * q + b) / power).round()).to(x.dtype)

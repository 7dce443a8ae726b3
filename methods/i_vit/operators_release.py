"""The operators as the authors' released code computes them: float32 tensors that hold integers, with their scale.

Each takes and returns (codes, scale); real value = codes * scale. Where this differs from the paper the docstring says
so. The released code passes codes * scale from layer to layer and divides by the scale again, so its "integers" are
off by a float32 rounding error, which a floor can turn into a unit; and integers beyond 24 bits are not exact. Both are
part of what is reproduced: give the operators `real / scale`, as `split` does, to get the same.

Gradients are those of the formulas as they stand, past the floors and roundings (straight-through), never those of the
real softmax, GELU or LayerNorm; that too is the released code's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.functional import linear as float_linear

SOFTMAX_SHIFT, GELU_SHIFT = 15, 23
INT32_MAX = 2**31 - 1
NEWTON_START = 2.0**16

Coded = tuple[Tensor, Tensor]
"""Integer codes held in float32, and their scale."""


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exact: Tensor, smooth: Tensor) -> Tensor:  # noqa: ARG004
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # noqa: ARG004
        return None, gradient


def straight_through(exact: Tensor, smooth: Tensor) -> Tensor:
    """The value of `exact`, to the bit, with the gradient of `smooth`; both have one shape."""
    if not torch.is_grad_enabled() or not smooth.requires_grad:
        return exact.detach()
    return _Through.apply(exact.detach(), smooth)  # type: ignore[no-any-return]


def _floor(x: Tensor) -> Tensor:
    return straight_through(torch.floor(x), x)


def split(real: Tensor, scale: Tensor) -> Tensor:
    """Real values to the released code's codes: real / S, not rounded."""
    codes: Tensor = real / scale
    return codes


def symmetric_scale(bound: Tensor, bits: int) -> Tensor:
    """S = max|x| / (2^(k-1) - 1), at least float32's epsilon (paper: 2m/(2^k-1))."""
    return torch.div(bound, 2 ** (bits - 1) - 1).clamp_min(torch.finfo(torch.float32).eps)


def quantize(x: Tensor, scale: Tensor, bits: int) -> Tensor:
    """clamp(round((1/S) x), -2^(k-1), 2^(k-1)-1): the reciprocal is rounded first (paper: round(x/S))."""
    return torch.round(1.0 / scale * x).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _rescale(codes: Tensor, ratio: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(ratio.abs())
    mantissa = torch.floor(mantissa * 2**31 + 0.5) * ratio.sign()  # half up in magnitude
    return torch.round(codes.double() * mantissa / torch.exp2((31 - exponent).double()))


@torch.no_grad()
def requantize(codes: Tensor, scale: Tensor, out_scale: Tensor, bits: int) -> Tensor:
    """Dyadic requantization with the product in float64, rounded to nearest; scales broadcast to the last dimension."""
    out = _rescale(torch.round(codes), scale.double() / out_scale.double())
    return out.float().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@torch.no_grad()
def residual_sum(left: Coded, right: Coded, out_scale: Tensor, bits: int = 16) -> Tensor:
    """Both operands rescaled to a common 16-bit scale, added, clamped (paper: INT32)."""
    parts = [_rescale(torch.round(codes), scale.double() / out_scale.double()) for codes, scale in (left, right)]
    return (parts[0] + parts[1]).float().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def weight_codes(weight: Tensor) -> Coded:
    """Codes of a weight [out, ...] with max|w|/127 an output channel, and the scale [out]."""
    scale = symmetric_scale(weight.detach().flatten(1).abs().amax(1), 8)
    shaped = scale.view(-1, *[1] * (weight.ndim - 1))
    return straight_through(quantize(weight, shaped, 8), weight / shaped), scale


def bias_codes(bias: Tensor, scale: Tensor) -> Tensor:
    """INT32 codes of a bias with S_w * S_x, in float32 (paper: exact integers)."""
    return straight_through(quantize(bias, scale, 32), bias / scale)


def linear(codes: Tensor, scale: Tensor, weight: Tensor, bias: Tensor | None) -> Coded:
    """INT8 x INT8 -> INT32 with bias, summed in float32; scale [out]."""
    w, w_scale = weight_codes(weight)
    out_scale = w_scale * scale
    return float_linear(codes, w, None if bias is None else bias_codes(bias, out_scale)), out_scale


def convolution(codes: Tensor, scale: Tensor, weight: Tensor, bias: Tensor | None) -> Coded:
    """Patch embedding [B, C, H, W] -> [B, H', W', out] with stride = kernel; scale [out]."""
    w, w_scale = weight_codes(weight)
    out_scale = w_scale * scale
    bias = None if bias is None else bias_codes(bias, out_scale)
    return conv2d(codes, w, bias, stride=weight.shape[2:]).permute(0, 2, 3, 1), out_scale


def shift_exp(codes: Tensor, scale: Tensor, shift: int) -> Tensor:
    """ShiftExp with I_0 = floor(-1/S) and the argument clipped at shift * I_0 (paper: round(1/S), no clip)."""
    power = codes + _floor(codes / 2) - _floor(codes / 2**4)
    one = torch.floor(-1.0 / scale)
    power = torch.maximum(power, shift * one)
    quotient = _floor(power / one)
    remainder = power - one * quotient
    return _floor((remainder / 2 - one) * 2 ** (shift - quotient)).clamp_min(0)


def _divide(numerator: Tensor, denominator: Tensor, bits: int) -> Tensor:
    factor = _floor(INT32_MAX / denominator.clamp_max(INT32_MAX))
    return _floor(numerator * factor / 2 ** (31 - bits + 1))


def shiftmax(codes: Tensor, scale: Tensor, bits: int) -> Coded:
    """Shiftmax; 16 bits in ViT and DeiT, 8 in Swin (paper: 8). M = 31 with 2^31-1 for 2^31."""
    largest = codes.max(-1, keepdim=True).values  # not amax, whose gradient is shared between equal maxima
    exponential = shift_exp(codes - largest, scale, SOFTMAX_SHIFT)
    out = _divide(exponential, exponential.sum(-1, keepdim=True), bits)
    return out, torch.full_like(scale, 1 / 2 ** (bits - 1))


def shift_gelu(codes: Tensor, scale: Tensor, bits: int = 8) -> Coded:
    """ShiftGELU with the scale multiplied by the float 1.702 (paper: shifts that make 1.6875)."""
    steep = scale * 1.702
    largest = codes.max(-1, keepdim=True).values
    numerator = shift_exp(codes - largest, steep, GELU_SHIFT)
    sigmoid = _divide(numerator, numerator + shift_exp(-largest, steep, GELU_SHIFT), bits)
    return codes * sigmoid, scale / 2 ** (bits - 1)


def layer_norm(codes: Tensor, gamma: Tensor, beta: Tensor) -> Coded:
    """I-LayerNorm of [..., C]; the variance is a sum of squares and sqrt(C) is folded into the scale sqrt(C)/2^30.

    The square root starts at 2^16 always and has not converged for roots below about 256; the bias is
    floor((beta/gamma)/scale), a constant to the gradient, so beta has none and gamma must not be 0. Returns codes and
    the scale [C], which has gamma's sign and gradient.
    """
    mean = codes.mean(-1, keepdim=True)
    difference = codes - straight_through(torch.round(mean), mean)
    variance = (difference**2).sum(-1, keepdim=True)
    root = torch.full_like(variance, NEWTON_START)
    for _ in range(10):
        root = _floor((root + _floor(variance / root)) / 2)
    out = _floor(difference * _floor(INT32_MAX / root) / 2)
    scale = torch.tensor(codes.shape[-1], dtype=torch.float32, device=codes.device).sqrt() / 2**30
    return out + torch.floor(beta.detach() / gamma.detach() / scale), scale * gamma

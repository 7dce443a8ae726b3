"""The trainable form: every operator of the network as a module that computes in float32 what the integers would give.

Between modules flows `Scaled`: real values that lie on a grid, with its scale. Each node ends in an `Output`, the
dyadic requantization to its own observed range. Gradients are straight-through: those of the real function, past every
rounding and clamp. `integer.py` turns each node, once ranges are fixed, into its integer form.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.methods.base import MethodInputError
from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.ablations import GELU, NORM, SOFTMAX
from vitq.methods.i_vit.dyadic import Affine, affine, affine_requantize, dyadic, requantize
from vitq.methods.i_vit.plan import Plan, Width
from vitq.methods.layers import Packed

MOMENTUM = 0.95
EPSILON = 2.0**-23
DYADIC_BITS = 32 + 8
"""A stored dyadic number: an int32 multiplier and an int8 shift."""


class Scaled(NamedTuple):
    """Real values on a grid and its scale: [] or, on the last dimension, [C]."""

    value: Tensor
    scale: Tensor

    def codes(self) -> Tensor:
        """The integers, rounded to int64."""
        return torch.round(self.value / self.scale).to(torch.int64)


def straight_through(exact: Tensor, smooth: Tensor) -> Tensor:
    """The value of `exact` with the gradient of `smooth`."""
    return smooth + (exact - smooth).detach() if torch.is_grad_enabled() else exact


def grid_scale(bound: Tensor, width: Width, paper: bool) -> Tensor:
    """Scale of a symmetric grid over [-bound, bound]: 2m/(2^k-1) in the paper, m/(2^(k-1)-1) in the released code."""
    if paper:
        return torch.div(2 * bound, 2**width.grid - 1).clamp_min(EPSILON)
    return release.symmetric_scale(bound, width.grid)


class Output(nn.Module):
    """Running range of a node's output and the requantization to it.

    Minimum and maximum follow with momentum 0.95, the first batch initialises them; they move in train mode and while
    `observing`, and are saved with the model (released code, QuantAct, which loses them).
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self, width: Width, plan: Plan, device: torch.device) -> None:
        super().__init__()
        self.width, self.plan, self.observing = width, plan, False
        self.paper = plan.paper("residual" if width.bits > 8 else "activations")
        self.register_buffer("low", torch.zeros((), device=device))
        self.register_buffer("high", torch.zeros((), device=device))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool, device=device))

    @torch.no_grad()
    def observe(self, value: Tensor) -> None:
        """Move the range towards that of `value`."""
        low, high = torch.aminmax(value.detach())
        self.low.copy_(torch.where(self.seen, self.low * MOMENTUM + low * (1 - MOMENTUM), low))
        self.high.copy_(torch.where(self.seen, self.high * MOMENTUM + high * (1 - MOMENTUM), high))
        self.seen.fill_(True)

    @property
    def scale(self) -> Tensor:
        """The scale of the grid over the range as it is now; a fresh tensor."""
        return grid_scale(torch.maximum(-self.low, self.high), self.width, self.paper)

    def watch(self, value: Tensor) -> None:
        """Observe in train mode or while calibrating."""
        if self.training or self.observing:
            self.observe(value)

    def requantize(self, x: Scaled) -> Tensor:
        """Codes of x on this grid, float32; the two arithmetics differ in rounding and in the product's exactness."""
        scale = self.scale
        if self.paper:
            number = dyadic(x.scale.double() / scale.double())
            return requantize(x.codes(), number, self.width.bits, self.plan.rounding).float()
        return release.requantize(x.value / x.scale, x.scale, scale, self.width.bits)

    def forward(self, x: Scaled) -> Scaled:
        """Observe and requantize."""
        self.watch(x.value)
        scale = self.scale
        return Scaled(straight_through(self.requantize(x) * scale, x.value), scale)


class Node(nn.Module):
    """Base: notes the scales of its inputs, from which the integer form takes its constants."""

    def __init__(self) -> None:
        super().__init__()
        self.in_scales: tuple[Tensor, ...] = ()

    def note(self, *inputs: Scaled) -> None:
        """Remember the scales of this call."""
        self.in_scales = tuple(x.scale.detach() for x in inputs)


def _dyadics(output: Output | None, channels: int = 1) -> list[Packed]:
    return [] if output is None else [Packed("requantization", channels, DYADIC_BITS)]


class Input(Node):
    """Quantizes the image to 8 bits; the only floating-point step of a deployed model, with the logits' last scale."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        super().__init__()
        self.out = Output(plan.activation, plan, device)

    def forward(self, image: Tensor) -> Scaled:
        """Normalized pixels [B, 3, H, W] to a grid."""
        self.out.watch(image)
        scale = self.out.scale
        return Scaled(straight_through(release.quantize(image, scale, 8) * scale, image), scale)

    def packed_tensors(self) -> list[Packed]:
        """The float scale of the image."""
        return [Packed("scale", 1, 32)]


class Linear(Node):
    """Linear layer or patch embedding: INT8 weights a channel, INT32 bias, INT32 accumulators."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, width: Width | None, plan: Plan) -> None:
        super().__init__()
        self.weight, self.bias, self.plan = layer.weight, layer.bias, plan
        self.patches = isinstance(layer, nn.Conv2d)
        self.out = None if width is None else Output(width, plan, layer.weight.device)

    def weight_grid(self) -> tuple[Tensor, Tensor]:
        """Codes of the weight (float32, with straight-through gradient) and the scale [out]."""
        scale = grid_scale(self.weight.detach().flatten(1).abs().amax(1), Width(8, 8), self.plan.paper("weights"))
        shaped = scale.view(-1, *[1] * (self.weight.ndim - 1))
        return straight_through(release.quantize(self.weight, shaped, 8), self.weight / shaped), scale

    def bias_codes(self, scale: Tensor) -> Tensor | None:
        """INT32 codes of the bias, held back from where the accumulator could overflow; float64 holds them exactly."""
        if self.bias is None:
            return None
        limit = 2.0**31 - 1 - 2**14 * self.weight[0].numel()
        exact = self.bias.double() / scale.double()
        return straight_through(exact.round().clamp(-limit, limit), exact)

    def forward(self, x: Scaled) -> Scaled:
        """[..., in] -> [..., out], or [B, C, H, W] -> [B, H', W', out] for the patch embedding."""
        self.note(x)
        weight, w_scale = self.weight_grid()
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

    def packed_tensors(self) -> list[Packed]:
        """Weight, bias, and a dyadic number a channel, here or in the residual sum that takes the accumulators."""
        rows = self.weight.shape[0]
        bias = [] if self.bias is None else [Packed("bias", rows, 32)]
        return [Packed("weight", self.weight.numel(), 8), *bias, Packed("requantization", rows, DYADIC_BITS)]


class MatMul(Node):
    """The product of two activations times `factor`, which only enters the scale."""

    def __init__(
        self, bits: tuple[int, int], width: Width | None, factor: float, plan: Plan, device: torch.device
    ) -> None:
        super().__init__()
        self.bits, self.factor = bits, factor
        self.out = None if width is None else Output(width, plan, device)

    def forward(self, left: Scaled, right: Scaled) -> Scaled:
        """[..., n, k] @ [..., k, m] -> [..., n, m]."""
        self.note(left, right)
        scale = left.scale * right.scale * self.factor
        y = Scaled((left.value / left.scale) @ (right.value / right.scale) * scale, scale)
        return y if self.out is None else self.out(y)

    def operand_bits(self) -> tuple[int, int]:
        """(left, right)."""
        return self.bits

    def packed_tensors(self) -> list[Packed]:
        """One dyadic number, here or in the sum that takes the accumulators."""
        return [Packed("requantization", 1, DYADIC_BITS)]


class Softmax(Node):
    """Shiftmax or what an ablation puts in its place, over the last dimension."""

    def __init__(self, plan: Plan, swin: bool) -> None:
        super().__init__()
        self.bits, self.operator = plan.probability_bits(swin), SOFTMAX[plan.softmax]
        self.release = plan.softmax == "shiftmax" and not plan.paper("softmax")

    def forward(self, x: Scaled) -> Scaled:
        """Logits to probabilities of scale 1/2^(bits-1)."""
        self.note(x)
        with torch.no_grad():
            if self.release:
                codes, scale = release.shiftmax(x.value / x.scale, x.scale, self.bits)
            else:
                constants = self.operator.constants(float(x.scale))
                codes = self.operator.apply(x.codes(), constants, self.bits).float()
                scale = torch.full_like(x.scale, self.operator.out_scale(float(x.scale), self.bits))
        if torch.is_grad_enabled():
            return Scaled(straight_through(codes * scale, x.value.softmax(-1)), scale)
        return Scaled(codes * scale, scale)

    def packed_tensors(self) -> list[Packed]:
        """The operator's integer constants."""
        return [Packed("constants", len(self.operator.constants(1.0)), 32)]


class Gelu(Node):
    """ShiftGELU or what an ablation puts in its place."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        super().__init__()
        self.operator = GELU[plan.gelu]
        self.release = plan.gelu == "shift" and not plan.paper("gelu")
        self.out = Output(plan.activation, plan, device)

    def forward(self, x: Scaled) -> Scaled:
        """Elementwise, but for the maximum over the last dimension that ShiftGELU subtracts."""
        self.note(x)
        with torch.no_grad():
            if self.release:
                codes, scale = release.shift_gelu(x.value / x.scale, x.scale)
            else:
                codes = self.operator.apply(x.codes(), self.operator.constants(float(x.scale)), 8).float()
                scale = torch.full_like(x.scale, self.operator.out_scale(float(x.scale), 8))
        if torch.is_grad_enabled():
            smooth = x.value * torch.sigmoid(1.702 * x.value)
            return self.out(Scaled(straight_through(codes * scale, smooth), scale))  # type: ignore[no-any-return]
        return self.out(Scaled(codes * scale, scale))  # type: ignore[no-any-return]

    def packed_tensors(self) -> list[Packed]:
        """The operator's integer constants and the requantization."""
        return [Packed("constants", len(self.operator.constants(1.0)), 32), *_dyadics(self.out)]


class Norm(Node):
    """I-LayerNorm with its affine part and requantization in one."""

    def __init__(self, layer: nn.LayerNorm, width: Width, plan: Plan) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.plan = layer.weight, layer.bias, layer.eps, plan
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
        graph = torch.is_grad_enabled()
        smooth = F.layer_norm(x.value, self.weight.shape, self.weight, self.bias, self.eps) if graph else None
        with torch.no_grad():
            y = self._release(x) if self.release else self._integer(x)
        return y if smooth is None else Scaled(straight_through(y.value, smooth), y.scale)

    def _release(self, x: Scaled) -> Scaled:
        if not bool((self.weight != 0).all()):
            raise MethodInputError(
                "a LayerNorm weight is 0, by which the release arithmetic divides: use arithmetic 'paper'"
            )
        codes, scale = release.layer_norm(x.value / x.scale, self.weight, self.bias)
        return self.out(Scaled(codes * scale, scale))  # type: ignore[no-any-return]

    def _integer(self, x: Scaled) -> Scaled:
        codes = self.operator.apply(x.codes())
        self.out.watch(codes * self.operator.unit(codes.shape[-1]) * self.weight + self.bias)
        out = affine_requantize(codes, self.constants(), self.out.width.bits, self.plan.rounding)
        return Scaled(out * self.out.scale, self.out.scale)

    def packed_tensors(self) -> list[Packed]:
        """An int32 multiplier and an int64 bias a channel, one shift."""
        channels = self.weight.numel()
        return [Packed("multiplier", channels, 32), Packed("bias", channels, 64), Packed("shift", 1, 8)]


class Add(Node):
    """The sum of two activations, both rescaled to the grid of the sum."""

    def __init__(self, width: Width, plan: Plan, device: torch.device) -> None:
        super().__init__()
        self.out = Output(width, plan, device)

    def forward(self, left: Scaled, right: Scaled) -> Scaled:
        """Broadcasting sum."""
        self.note(left, right)
        total = left.value + right.value
        self.out.watch(total)
        scale = self.out.scale
        with torch.no_grad():
            if self.out.paper:
                codes = sum_codes(left.codes(), right.codes(), left.scale, right.scale, self.out).float()
            else:
                parts = [(x.value / x.scale, x.scale) for x in (left, right)]
                codes = release.residual_sum(parts[0], parts[1], scale, self.out.width.bits)
        return Scaled(straight_through(codes * scale, total), scale)

    def packed_tensors(self) -> list[Packed]:
        """A dyadic number an operand; an accumulator's are counted with its layer."""
        return [Packed("requantization", 2, DYADIC_BITS)]


def sum_codes(left: Tensor, right: Tensor, left_scale: Tensor, right_scale: Tensor, out: Output) -> Tensor:
    """clamp(DN(S_l/S)*l + DN(S_r/S)*r), each operand first held to the output's width, so that nothing overflows."""
    scale = out.scale.double()
    pairs = ((left, left_scale), (right, right_scale))
    total = sum(
        requantize(c, dyadic(s.double() / scale), min(out.width.bits + 6, 31), out.plan.rounding) for c, s in pairs
    )
    assert isinstance(total, Tensor)
    return total.clamp(-(2 ** (out.width.bits - 1)), 2 ** (out.width.bits - 1) - 1)


class AddConstant(Node):
    """An activation plus a learnt constant: position embedding, relative-position bias.

    The released code quantizes the constant to a range of its own, then both to the sum's; the paper's arithmetic
    quantizes it to the sum's grid at once.
    """

    def __init__(self, source: nn.Module, width: Width, plan: Plan, device: torch.device) -> None:
        super().__init__()
        self.source = source
        self.out = Output(width, plan, device)
        self.own = None if self.out.paper else Output(width, plan, device)

    def forward(self, x: Scaled) -> Scaled:
        """Broadcasting sum."""
        self.note(x)
        constant = self.source()
        self.out.watch(x.value + constant)
        scale = self.out.scale
        if self.own is not None:
            self.own.watch(constant)
            own = self.own.scale
            fixed = release.quantize(constant, own, self.own.width.bits)
            codes = release.residual_sum((x.value / x.scale, x.scale), (fixed, own), scale, self.out.width.bits)
        else:
            codes = self.add_codes(x.codes(), self.constant_codes(constant)).float()
        return Scaled(straight_through(codes * scale, x.value + constant), scale)

    def constant_codes(self, constant: Tensor) -> Tensor:
        """Integers of the constant on the sum's grid, int64."""
        limit = 2 ** (self.out.width.bits - 1)
        return torch.round(constant.detach() / self.out.scale).clamp(-limit, limit - 1).to(torch.int64)

    def add_codes(self, codes: Tensor, constant: Tensor) -> Tensor:
        """The integer sum of the activation's codes on their own grid and the constant's on this one."""
        bits = self.out.width.bits
        number = dyadic(self.in_scales[0].double() / self.out.scale.double())
        total = requantize(codes, number, min(bits + 6, 31), self.out.plan.rounding) + constant
        return total.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def packed_tensors(self) -> list[Packed]:
        """The constant at 8, 16 or 32 bits, and the dyadic numbers."""
        bits = self.out.width.bits
        stored = sum(p.numel() for p in self.source.parameters())
        return [Packed("constant", stored, 32 if bits > 16 else bits), Packed("requantization", 2, DYADIC_BITS)]


class ClassToken(Node):
    """Puts the class token before the patches, on the patches' grid."""

    def __init__(self, token: nn.Parameter, plan: Plan) -> None:
        super().__init__()
        self.token, self.bits = token, plan.residual.bits

    def forward(self, x: Scaled) -> Scaled:
        """[B, N, C] -> [B, 1+N, C]; the token keeps its real value here and is rounded by the next requantization."""
        self.note(x)
        return Scaled(torch.cat([self.token.expand(x.value.shape[0], -1, -1), x.value], 1), x.scale)

    def packed_tensors(self) -> list[Packed]:
        """The token in 16 or 32 bits."""
        return [Packed("token", self.token.numel(), 32 if self.bits > 16 else 16)]


class Pool(Node):
    """The mean over positions, requantized to 8 bits."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        super().__init__()
        self.out = Output(plan.activation, plan, device)
        self.count = 0

    def forward(self, x: Scaled) -> Scaled:
        """[B, H, W, C] -> [B, C]."""
        self.note(x)
        self.count = math.prod(x.value.shape[1:3])
        if not self.out.paper:
            return self.out(Scaled(x.value.mean((1, 2)), x.scale))  # type: ignore[no-any-return]
        scale = x.scale / self.count
        return self.out(Scaled((x.value / x.scale).sum((1, 2)) * scale, scale))  # type: ignore[no-any-return]

    def packed_tensors(self) -> list[Packed]:
        """One dyadic number."""
        return _dyadics(self.out)


class Mask(Node):
    """Adds Swin's mask, 0 or -100 between windows, to the logits; it widens the codes beyond 8 bits."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask.detach().clone(), persistent=False)

    def mask_codes(self, scale: Tensor) -> Tensor:
        """round(mask/S), int64, within 2^30."""
        return torch.round(self.mask.double() / scale.double()).clamp(min=-(2.0**30)).to(torch.int64)

    def forward(self, x: Scaled) -> Scaled:
        """[B*windows, heads, n, n], the windows of an image in order."""
        self.note(x)
        windows, n = self.mask.shape[0], self.mask.shape[1]
        value = x.value.reshape(-1, windows, x.value.shape[1], n, n) + self.mask[:, None]
        return Scaled(value.reshape(x.value.shape), x.scale)

    def packed_tensors(self) -> list[Packed]:
        """Nothing: it follows from the architecture."""
        return []

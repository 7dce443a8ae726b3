"""The trainable form's sums: residuals, learnt constants, the class token, Swin's mask and the mean over positions.

Each computes in float32 what the integers would give; `integer_sums.py` holds their integer forms.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.dyadic import dyadic, requantize
from vitq.methods.i_vit.grids import Node, Output, Scaled, dyadics, fill
from vitq.methods.i_vit.operators_release import straight_through
from vitq.methods.i_vit.plan import Plan, Width
from vitq.methods.toolkit.layers import Codes, Packed, State

MASKED = -100.0
"""What timm's Swin adds to the logits of tokens that are no neighbours."""


class Add(Node):
    """The sum of two activations, both rescaled to the grid of the sum; the left one may have `channels` scales."""

    def __init__(self, width: Width, channels: int, plan: Plan, device: torch.device) -> None:
        super().__init__(plan)
        self.channels = channels
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

    def shipped(self) -> list[Packed]:
        """A dyadic number an operand, of accumulators one a channel."""
        return dyadics(self.out, self.channels + 1)


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
    quantizes it to the sum's grid at once. `arrange` brings the learnt values into the shape that is added.
    """

    def __init__(self, value: nn.Parameter, arrange: nn.Module, width: Width, plan: Plan) -> None:
        super().__init__(plan)
        self.value, self.arrange = value, arrange
        device = value.device
        self.out = Output(width, plan, device)
        self.own = None if self.out.paper else Output(width, plan, device)

    def forward(self, x: Scaled) -> Scaled:
        """Broadcasting sum."""
        self.note(x)
        constant = self.arrange(self.value)
        if self.own is not None:
            return self._release(x, self.own, constant)
        self.out.watch(x.value + constant)
        codes = self.add_codes(x.codes(), self.constant_codes(constant)).float()
        return Scaled(straight_through(codes * self.out.scale, x.value + constant), self.out.scale)

    def _release(self, x: Scaled, own: Output, constant: Tensor) -> Scaled:
        own.watch(constant)
        fixed = release.quantize(constant, own.scale, own.width.bits)
        total = x.value + straight_through(fixed * own.scale, constant)
        self.out.watch(total)  # the range of the sum is taken after the constant is quantized
        scale = self.out.scale
        codes = release.residual_sum((x.value / x.scale, x.scale), (fixed, own.scale), scale, self.out.width.bits)
        return Scaled(straight_through(codes * scale, total), scale)

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

    def kept(self) -> State:
        """Codes of the learnt values on their own grid; the values themselves where they have none."""
        if self.own is None:
            return {"value": self.value.detach()}
        bits = self.own.width.bits
        codes = release.quantize(self.value.detach(), self.own.scale, bits)
        return {"value": Codes(codes.to(torch.int32), bits, signed=True)}

    def take(self, state: dict[str, Tensor]) -> None:
        """The values become those of their codes."""
        given = state["value"].to(self.value.device)
        fill(self.value, given if self.own is None else given * self.own.scale)

    def shipped(self) -> list[Packed]:
        """The learnt values at 8, 16 or 32 bits, and a dyadic number."""
        bits = self.out.width.bits
        return [Packed("codes", self.value.numel(), 32 if bits > 16 else bits), *dyadics(self.out)]


class Whole(nn.Module):
    """Adds the learnt values as they are."""

    def forward(self, values: Tensor) -> Tensor:
        """Same."""
        return values


class Regrid(Node):
    """One more requantization of an activation, which the released Swin has after its patch embedding."""

    def __init__(self, width: Width, plan: Plan, device: torch.device) -> None:
        super().__init__(plan)
        self.out = Output(width, plan, device)

    def forward(self, x: Scaled) -> Scaled:
        """Same shape."""
        self.note(x)
        return self.out(x)  # type: ignore[no-any-return]


class ClassToken(Node):
    """Puts the class token before the patches, on the patches' grid."""

    def __init__(self, token: nn.Parameter, plan: Plan) -> None:
        super().__init__(plan)
        self.token = token

    def forward(self, x: Scaled) -> Scaled:
        """[B, N, C] -> [B, 1+N, C]; the token keeps its real value here and is rounded by the next requantization."""
        self.note(x)
        return Scaled(torch.cat([self.token.expand(x.value.shape[0], -1, -1), x.value], 1), x.scale)

    def kept(self) -> State:
        """The token in floating point, since it shares a grid that need not reach it."""
        return {"token": self.token.detach()}

    def take(self, state: dict[str, Tensor]) -> None:
        """The token."""
        fill(self.token, state["token"])

    def shipped(self) -> list[Packed]:
        """The token in 32 bits."""
        return [Packed("token", self.token.numel(), 32)]


class Pool(Node):
    """The mean over positions, requantized to 8 bits."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        super().__init__(plan)
        self.out = Output(plan.activation, plan, device)
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

    def shipped(self) -> list[Packed]:
        """One dyadic number."""
        return dyadics(self.out)


class Mask(Node):
    """Adds Swin's mask, 0 or -100 between windows, to the logits; it widens the codes beyond 8 bits."""

    mask: Tensor

    def __init__(self, mask: Tensor, plan: Plan) -> None:
        super().__init__(plan)
        self.register_buffer("mask", mask.detach().clone(), persistent=False)

    @staticmethod
    def code(scale: Tensor) -> Tensor:
        """round(-100/S), int64, within 2^30."""
        return torch.round(MASKED / scale.double()).clamp(min=-(2.0**30)).to(torch.int64)

    def forward(self, x: Scaled) -> Scaled:
        """[B*windows, heads, n, n], the windows of an image in order."""
        self.note(x)
        windows, n = self.mask.shape[0], self.mask.shape[1]
        value = x.value.reshape(-1, windows, x.value.shape[1], n, n) + self.mask[:, None]
        return Scaled(value.reshape(x.value.shape), x.scale)

    def shipped(self) -> list[Packed]:
        """The code of -100; where it stands follows from the architecture."""
        return [Packed("code", 1, 32)]

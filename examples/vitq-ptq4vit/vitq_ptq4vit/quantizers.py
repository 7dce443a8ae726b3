"""PTQ4ViT's grids: symmetric with a scale a group, and twin: one bit chooses a range, k - 1 bits the value in it."""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.toolkit.quantizers import Quantizer

GELU_LEAST = 0.16997124254703522
"""-min of GELU by the error function."""
SPLITS = 20
"""Splits after softmax: 2^-i, i = 0..19."""


class SearchedQuantizer(Quantizer):
    """A quantizer whose `scale` is tried out by a search; nothing is observed."""

    scale: Tensor

    def observe(self, x: Tensor) -> None:
        """Nothing: a search shows it candidates."""

    def fit(self) -> None:
        """Keep the scale that the search left."""
        self.fitted = True

    def start(self, x: Tensor) -> Tensor:
        """The scale [G] that the search begins with, of which its candidates are multiples."""
        raise NotImplementedError

    def candidates(self, x: Tensor, multipliers: Tensor) -> Tensor:
        """The scales to try on x, [candidates, G]."""
        return multipliers[:, None] * self.start(x)

    def set_scale(self, scale: Tensor) -> None:
        """Take a scale of the same shape."""
        self.scale = scale.detach().clone()
        self.fitted = True

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take the scale, and quantize from now on; ValueError for another number of groups."""
        if state["scale"].shape != self.scale.shape:
            raise ValueError(f"the scale has shape {list(state['scale'].shape)}, not {list(self.scale.shape)}")
        self.set_scale(state["scale"].to(self.scale.device))
        self.mode = "on"


class SymmetricQuantizer(SearchedQuantizer):
    """x_hat = D clamp(round(x/D), -2^(k-1), 2^(k-1)-1); one D for each of `groups` equal parts of the axis."""

    def __init__(self, bits: int, groups: int = 1, axis: int = 0) -> None:
        super().__init__(bits)
        self.groups, self.axis = groups, axis
        self.register_buffer("scale", torch.ones(groups))

    @property
    def code_limits(self) -> tuple[int, int]:
        """-2^(k-1) and 2^(k-1)-1."""
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1

    def start(self, x: Tensor) -> Tensor:
        """max|x| / (2^(k-1) - 0.5) of each group; 1 where a group is zero."""
        most = x.movedim(self.axis, 0).reshape(self.groups, -1).abs().amax(1)
        least: Tensor = torch.where(most > 0, most, 1) / (2 ** (self.bits - 1) - 0.5)
        return least

    def steps(self, x: Tensor) -> Tensor:
        """The scale of every element, in a shape that broadcasts against x."""
        if self.groups == 1:
            return self.scale
        shape = [1] * x.ndim
        shape[self.axis] = -1
        return self.scale.repeat_interleave(x.shape[self.axis] // self.groups).view(shape)

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes (int32)."""
        return (x / self.steps(x)).round().clamp(*self.code_limits).int()

    def decode(self, codes: Tensor) -> Tensor:
        """code D."""
        return codes * self.steps(codes)

    def fake_quant(self, x: Tensor) -> Tensor:
        """decode(codes(x)) in fewer passes."""
        steps = self.steps(x)
        found: Tensor = (x / steps).round_().clamp_(*self.code_limits).mul_(steps)
        return found

    def form(self) -> list[int]:
        """Width, groups and axis."""
        return [self.bits, self.groups, self.axis]


class TwinSoftmax(SearchedQuantizer):
    """After softmax: below the split s = 2^-i a step of s/(n-1), from it on 1/(n-1); n = 2^(k-1), codes 0..n-1 in each.

    A step is the other one shifted by i. `both` is what the released code computes: x is clamped into each range,
    quantized there, and the two are added. From the split on that is too high by s, and below it by
    round(s (n-1))/(n-1), which is zero for small splits only. A sum of two codes takes 2 (k-1) bits.
    """

    def __init__(self, bits: int, both: bool = False) -> None:
        super().__init__(bits)
        self.both, self.levels = both, 2 ** (bits - 1)
        self.register_buffer("scale", torch.ones(1))

    @property
    def code_limits(self) -> tuple[int, int]:
        """0 and 2n-1; n^2-1 where both ranges are added."""
        return 0, (self.levels**2 if self.both else 2 * self.levels) - 1

    def candidates(self, x: Tensor, multipliers: Tensor) -> Tensor:  # noqa: ARG002
        """The splits 2^-i, [20, 1]."""
        powers = torch.arange(SPLITS, dtype=self.scale.dtype, device=self.scale.device)
        return torch.exp2(-powers)[:, None]

    def ranges(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of x in the lower and in the upper range, as floats."""
        split, last = self.scale, self.levels - 1
        low = (torch.minimum(x, split) * (last / split)).round()
        return low, (torch.maximum(x, split) * last).round()

    def codes(self, x: Tensor) -> Tensor:
        """low, or n + high from the split on; n high + low where both are added (int32)."""
        low, high = (part.clamp(0, self.levels - 1) for part in self.ranges(x))
        both = self.levels * high + low
        return (both if self.both else torch.where(x >= self.scale, self.levels + high, low)).int()

    def decode(self, codes: Tensor) -> Tensor:
        """The values of codes."""
        lower, upper = self.scale / (self.levels - 1), 1 / (self.levels - 1)
        if self.both:
            values: Tensor = (codes % self.levels) * lower + (codes // self.levels) * upper
            return values
        return torch.where(codes >= self.levels, (codes - self.levels) * upper, codes * lower)

    def form(self) -> list[int]:
        """Width and whether both ranges are added."""
        return [self.bits, int(self.both)]


class TwinGelu(SearchedQuantizer):
    """After GELU: negative values on the fixed step 0.16997/n, codes -n..0, others on D+, codes 0..n-1; n = 2^(k-1).

    `shifted` tries the positive steps 2^m times the negative one, m = 0..15, instead of multiples of max(x)/(n - 0.5).
    """

    def __init__(self, bits: int, shifted: bool = False) -> None:
        super().__init__(bits)
        self.shifted, self.levels = shifted, 2 ** (bits - 1)
        self.register_buffer("scale", torch.ones(1))

    @property
    def code_limits(self) -> tuple[int, int]:
        """-n and n-1."""
        return -self.levels, self.levels - 1

    def start(self, x: Tensor) -> Tensor:
        """max(x) / (n - 0.5); 1 where nothing is positive."""
        most = x.amax().view(1)
        least: Tensor = torch.where(most > 0, most, 1) / (self.levels - 0.5)
        return least

    def candidates(self, x: Tensor, multipliers: Tensor) -> Tensor:
        """Multiples of the starting scale, or shifts of the negative step; [candidates, 1]."""
        if not self.shifted:
            return super().candidates(x, multipliers)
        shifts = torch.arange(16, dtype=self.scale.dtype, device=self.scale.device)
        steps: Tensor = GELU_LEAST / self.levels * torch.exp2(shifts)[:, None]
        return steps

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes (int32); the sign is the range."""
        step = torch.where(x < 0, GELU_LEAST / self.levels, self.scale)
        return (x / step).round().clamp(*self.code_limits).int()

    def decode(self, codes: Tensor) -> Tensor:
        """The values of codes."""
        return codes * torch.where(codes < 0, GELU_LEAST / self.levels, self.scale)

    def form(self) -> list[int]:
        """Width and whether the steps differ by a power of two."""
        return [self.bits, int(self.shifted)]

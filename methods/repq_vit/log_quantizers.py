"""Logarithmic quantizers for attention after softmax (RepQ-ViT, arXiv 2212.08254; FQ-ViT's log2 for comparison)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from vitq.errors import MethodInputError
from vitq.methods.toolkit.chunks import in_pieces
from vitq.methods.toolkit.observers import PERCENTILES, chunks, first_of_least, squared_error
from vitq.methods.toolkit.quantiles import rows_of, tail_quantiles
from vitq.methods.toolkit.quantizers import Quantizer, scalar

Overflow = Literal["zero", "clip"]


class LogQuantizer(Quantizer):
    """Powers of a root of two: A_q = round(-k*log2(A/s)), A_hat = s * 2^(-A_q/k); k = 2 is log-sqrt2, k = 1 log2.

    Where A_q exceeds 2^b-1, overflow "clip" saturates it, as RepQ-ViT's paper writes; "zero" gives 0, as its released
    code does: then there are 2^b levels and a zero, whose code is 2^b. Values must not be negative.

    The scale s is the quantile of A at 0.999, 0.9999 or 0.99999 with the least mean squared error, the first of equals;
    quantiles of zero are passed over, as the released code's NaN makes them.
    """

    scale: Tensor

    def __init__(self, bits: int, steps_per_octave: int = 2, overflow: Overflow = "zero") -> None:
        super().__init__(bits)
        self.steps, self.overflow = steps_per_octave, overflow
        self.shown: list[Tensor] = []
        self.register_buffer("scale", torch.ones(()))

    @property
    def code_limits(self) -> tuple[int, int]:
        """Smallest and largest code: 0 and 2^b-1, or 2^b for zero where overflow is "zero"."""
        return 0, 2**self.bits - (self.overflow == "clip")

    def observe(self, x: Tensor) -> None:
        """Keep x until `fit`."""
        self.shown.append(rows_of(x, None))

    def fit(self) -> None:
        """Search the scale over the quantiles of what was shown that are above zero, or take the largest value.

        MethodInputError where nothing is above zero: no scale would hold what attention is at any other input.
        """
        x = self.shown[0] if len(self.shown) == 1 else torch.cat(self.shown, dim=1)
        self.shown = []
        scales = torch.cat([tail_quantiles(x, PERCENTILES, upper=True)[0], x.amax().view(1)])
        if not bool(torch.isfinite(scales).all()) or not float(scales[-1]) > 0:
            raise MethodInputError("attention to quantize holds NaN, infinity or only zeros; check weights and inputs")
        usable = scales[:-1][scales[:-1] > 0]
        scales = usable if len(usable) else scales[-1:]
        self.scale = scales[self._best(x, scales)].clone()
        self.fitted = True

    def form(self) -> list[int]:
        """Width, steps an octave, and what becomes of an overflow."""
        return [self.bits, self.steps, int(self.overflow == "clip")]

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take the scale, and quantize from now on; ValueError for a scale that is no single number."""
        if state["scale"].shape != self.scale.shape:
            raise ValueError(f"the scale has shape {list(state['scale'].shape)}: attention has one scale")
        self.scale = state["scale"].to(self.scale.device, copy=True)
        self.fitted, self.mode = True, "on"

    def _best(self, x: Tensor, scales: Tensor) -> int:
        """Index of the scale with the least squared error over x."""
        parts = [part for _, part in chunks(x)]
        if x.device.type == "cpu":
            return first_of_least([partial(self._part_error, scale) for scale in scales], parts)
        errors = [torch.stack([self._part_error(scale, part) for part in parts]).double().sum() for scale in scales]
        return int(torch.stack(errors).argmin())

    def _part_error(self, scale: Tensor, part: Tensor, memory: Tensor | None = None) -> Tensor:
        return squared_error(self._quantize(part, scale, memory), part).sum()

    def _log_codes(self, x: Tensor, scale: Tensor) -> Tensor:
        y: Tensor = (x / scalar(scale)).log2_().mul_(-self.steps).round_()
        return y.clamp_(*self.code_limits)

    def _decode(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Decode float codes in place."""
        y = codes.mul_(-1 / self.steps).exp2_().mul_(scalar(scale))
        if self.overflow == "clip":
            return y
        return torch.threshold_(y, self._cut(scale), 0.0)

    def _cut(self, scale: Tensor) -> float:
        """Between the value of the last code and the code after it, which overflow "zero" makes zero."""
        return (scale * 2.0 ** (-(2**self.bits - 0.5) / self.steps)).item()

    def _quantize(self, x: Tensor, scale: Tensor, out: Tensor | None = None) -> Tensor:
        """decode(codes(x)) on the grid of a scale, in pieces and with fewer operations."""
        step, (_, last), cut = scalar(scale), self.code_limits, self._cut(scale)
        least = -last / self.steps

        def work(part: Tensor, y: Tensor | None) -> Tensor:
            y = self._round(torch.div(part, step, out=y).log2_()).clamp_(least, 0).exp2_().mul_(step)
            return torch.threshold_(y, cut, 0.0) if self.overflow == "zero" else y

        return in_pieces(x, work, out)

    def _round(self, logs: Tensor) -> Tensor:
        """Round to multiples of 1/k, ties to the even multiple, in place."""
        return logs.round_() if self.steps == 1 else logs.mul_(self.steps).round_().mul_(1 / self.steps)

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes (int32); larger codes are smaller values."""
        return self._log_codes(x, self.scale).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """s * 2^(-code/k), and 0 for the code 2^b where overflow is "zero"."""
        return self._decode(codes.to(self.scale.dtype), self.scale)

    def fake_quant(self, x: Tensor) -> Tensor:
        """decode(codes(x)); the gradient passes straight through where gradients are enabled."""
        y = self.evaluate(x.detach())
        return x + (y - x).detach() if torch.is_grad_enabled() and x.requires_grad else y

    def evaluate(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """decode(codes(x)) without gradients, in pieces, and into `out`."""
        return self._quantize(x, self.scale, out)

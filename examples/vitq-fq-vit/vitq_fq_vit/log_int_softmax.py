"""Log-int-softmax: softmax of integers, quantized to powers of two (FQ-ViT, as its released code computes it).

exp is I-BERT's (arXiv 2101.01321): a polynomial on (-ln 2, 0], its coefficients divided by the first, and a shift.
Integers are held in floating point, as everywhere in fake quantization.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer

LN2, LINEAR, CONSTANT = 0.6931, 2.70732, 2.79211
"""exp(r) is about 0.35815147 (r^2 + 2.70732 r + 2.79211) on (-ln 2, 0]."""
CUT = 30
"""Halvings after which an exponential is cut off, and the bits that it is held with."""
Overflow = Literal["zero", "clip"]


def int_exp(x: Tensor, scale: float) -> Tensor:
    """exp(scale x) of integers x <= 0 as integers, times a constant: floor(p(r) 2^(30 - k)).

    L = floor(-ln 2 / s), x >= 30 L, k = floor(x / L), r = x - k L, p(r) = r (r + floor(b/s)) + floor(c/s^2).
    Where the scale is coarser than 1.67, floor(c/s^2) and all exponentials are zero.
    """
    halving = (-torch.tensor(LN2) / scale).floor()
    x = x.clamp_min(CUT * halving)
    k = (x / halving).floor()
    r = x - k * halving
    polynomial = r * (r + int(LINEAR / scale)) + int(CONSTANT / scale**2)
    return torch.ldexp(polynomial, CUT - k).floor_().clamp_min_(0)


def log_codes(exponentials: Tensor) -> Tensor:
    """round(log2(sum/e)) along the last dimension, rounded up from the arithmetic midpoint 1.5 2^n on.

    R = round(sum/e) first; infinite where e = 0, and where a whole row is.
    """
    ratio = (exponentials.sum(-1, keepdim=True) / exponentials).nan_to_num(torch.inf, torch.inf).round_()
    mantissa, exponent = torch.frexp(ratio)  # ratio = mantissa 2^exponent, mantissa in [0.5, 1)
    codes = exponent - 1 + (mantissa >= 0.75).int()
    return torch.where(ratio.isinf(), torch.iinfo(torch.int32).max, codes)


class LogIntSoftmax(Quantizer):
    """Softmax whose results are powers of two: code = round(log2(sum/e)), A_hat = 2^-code, and 0 for code >= 2^b.

    Its input is on the grid of `source`, whose scale it computes with; while that has no grid, and while it is not on
    itself, it is a softmax in floating point. Rows do not sum to 1. `overflow` "clip" takes 2^b - 1 for larger codes.
    """

    source: tuple[nn.Module]
    """What puts out the input; in a tuple, for it has its own place in the model."""

    def __init__(self, bits: int, source: nn.Module, overflow: Overflow = "zero") -> None:
        super().__init__(bits)
        self.overflow = overflow
        self.source = (source,)
        self.fitted = True

    @property
    def scale(self) -> float:
        """The step of the input's grid."""
        grid = self.source[0].output_quantizer
        assert isinstance(grid, UniformQuantizer)
        grid.require_grid()
        return float(grid.scale)

    @property
    def code_limits(self) -> tuple[int, int]:
        """0 and 2^b - 1, or 2^b for zero."""
        return 0, 2**self.bits - (self.overflow == "clip")

    def observe(self, x: Tensor) -> None:
        """Nothing: there is no scale to search."""

    def fit(self) -> None:
        """There is always a grid, the powers of two."""

    def codes(self, x: Tensor) -> Tensor:
        """Codes (int32) of the attention that logits x on the source's grid give; larger codes are smaller values."""
        steps = (x / self.scale).round()
        exponentials = int_exp(steps - steps.amax(-1, keepdim=True), self.scale)
        return log_codes(exponentials).clamp(*self.code_limits).int()

    def decode(self, codes: Tensor) -> Tensor:
        """2^-code, and 0 for the code 2^b where overflow is "zero"."""
        powers = torch.exp2(-codes.float())
        return powers if self.overflow == "clip" else powers.masked_fill(codes >= 2**self.bits, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [..., N, N] -> attention."""
        return self.fake_quant(x) if self.mode == "on" else x.softmax(dim=-1)

    def overhead_bits(self) -> int:
        """Nothing is stored."""
        return 0

    def form(self) -> list[int]:
        """Width and what becomes of an overflow."""
        return [self.bits, int(self.overflow == "clip")]

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Quantize from now on; nothing was stored."""
        if state:
            raise ValueError("log-int-softmax stores nothing")
        self.mode = "on"

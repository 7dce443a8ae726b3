"""Binarizers: what becomes one bit, and the gradient that flows through it.

A binarizer gives codes (-1 and +1, or 0 and 1), whose products with other codes are exact integers in float32 in any
order of summation; scales are applied to the products. So the packed form (`packed.py`), which counts bits, computes
the very same numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.toolkit.observers import flat
from vitq.methods.toolkit.quantizers import round_ste
from vitq.methods.toolkit.stored import Packed, State


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1: unlike torch.sign never 0, which takes no bit."""
    return (x >= 0).to(x.dtype).mul_(2).sub_(1)


class _ActivationSign(torch.autograd.Function):
    """sign(x), with the gradient of a * sign(x) ~ a * F(x / a) taken over a.

    F is piecewise quadratic, F'(u) = 2 + 2u on [-1, 0], 2 - 2u on (0, 1], else 0 (Bi-Real Net, Liu et al. 2018).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, scale = ctx.saved_tensors
        slope = x.abs().mul_(-2 / scale**2).add_(2 / scale).clamp_(min=0)  # F'(x / a) / a
        return slope.mul_(grad), None


def centred_rows(weight: Tensor) -> Tensor:
    """W - row mean, whose signs are a row's codes; a row of one value (a pruned one) is left as it is, [out, in].

    Such a row has no spread to centre: its difference from its mean is rounding noise, and its sign its own.
    """
    constant = flat(*torch.aminmax(weight, dim=1, keepdim=True))
    return torch.where(constant, weight, weight - weight.mean(dim=1, keepdim=True))


class _WeightSign(torch.autograd.Function):
    """sign(W - row mean), with the gradient of row_scale * sign(W - row mean) taken over row_scale, and GRS."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, row_scale: Tensor, pull: float) -> Tensor:
        centred = centred_rows(weight)
        ctx.save_for_backward(centred, row_scale)
        ctx.pull = pull
        return sign(centred)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        centred, row_scale = ctx.saved_tensors
        # a row of zeros gets no gradient from its products, which are zero, and stays pruned
        row_scale = torch.where(row_scale > 0, row_scale, torch.ones_like(row_scale))
        grad = grad / row_scale * (centred.abs() <= 1)
        if ctx.pull:
            to_mode = centred / row_scale - sign(centred)
            grad = grad + ctx.pull * grad.abs().mean(dim=1, keepdim=True) * to_mode
        return grad, None, None


def weight_sign(weight: Tensor, row_scale: Tensor, pull: float = 0.0) -> Tensor:
    """Signs of W - mean(W) a row, W [out, in], row_scale [out, 1].

    Gradient: the clipped straight-through estimator of W^ = row_scale * sign(W - mean), dW^/dW = 1 on [-1, 1], else 0
    (XNOR-Net; BiT). With `pull` > 0 the gradient regularization scheme adds to the gradient g of a row
    pull * mean|g| * ((W - mean) / row_scale - sign(W - mean)): a force to the nearer of the two modes +-row_scale,
    strongest at the boundary, measured in the row's own gradients so that it needs no tuning to the loss or its scale.
    """
    return _WeightSign.apply(weight, row_scale, pull)  # type: ignore[no-any-return]


class Binarizer(nn.Module):
    """Base: a learnable positive scale (kept as its logarithm), `bits`, and codes `low` and 1 for them."""

    low: float
    log_scale: nn.Parameter

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.calibrating = False

    def scale(self) -> Tensor:
        """The positive scale a, [1]; exp of what is learned, so that steps are relative and the sign is safe."""
        return self.log_scale.exp()

    def bits(self, x: Tensor) -> Tensor:
        """Bool, same shape: which code x gets."""
        raise NotImplementedError

    def packed_tensors(self) -> list[Packed]:
        """What of this binarizer ships."""
        return [Packed("activation scale", 1, 32)]

    def stored_state(self) -> State:
        """Every parameter; MethodInputError where the scale waits for a calibration batch."""
        if self.calibrating:
            raise MethodInputError("a binarizer still waits for its calibration batch: run one through the model")
        return dict(self.named_parameters(recurse=False))

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take every parameter; KeyError, ValueError for another binarizer's."""
        self.calibrating = False
        with torch.no_grad():
            for name, parameter in self.named_parameters(recurse=False):
                if state[name].shape != parameter.shape:
                    raise ValueError(f"{name} has shape {list(state[name].shape)}, not {list(parameter.shape)}")
                parameter.copy_(state[name])

    def _calibrate(self, level: Tensor) -> None:
        with torch.no_grad():
            self.log_scale.copy_(level.mean().clamp(min=1e-6).log().reshape(1))
        self.calibrating = False


class SignBinarizer(Binarizer):
    """Activations to -1 and +1, after the activation shift module (ASM) where there is one.

    The shift of channel c of an input is shift_c + adapt_c * (mean of channel c over the input's tokens): a learnable
    threshold (ReActNet's RSign) and a part that follows the input, since the abstract calls the module adaptive. With
    adapt = -1 and shift = 0 every channel of every input is centred.

    `channels` is the shape of the parameters: (C,) for [B, ..., C], (heads, 1, d) for [B, heads, N, d].
    """

    low = -1.0

    def __init__(self, channels: tuple[int, ...], asm: bool) -> None:
        super().__init__()
        self.channels = channels
        self.shift = nn.Parameter(torch.zeros(channels)) if asm else None
        self.adapt = nn.Parameter(torch.zeros(channels)) if asm else None

    def shifted(self, x: Tensor) -> Tensor:
        """x plus its channel shifts, same shape."""
        if self.shift is None or self.adapt is None:
            return x
        tokens = tuple(range(len(self.channels), x.ndim - 1)) if len(self.channels) == 1 else (-2,)
        return x + (self.shift + self.adapt * x.mean(dim=tokens, keepdim=True))

    def bits(self, x: Tensor) -> Tensor:
        """Which of x, shifted, is at least 0."""
        return self.shifted(x) >= 0

    def forward(self, x: Tensor) -> Tensor:
        """-1 or +1, same shape."""
        x = self.shifted(x)
        if self.calibrating:
            self._calibrate(x.abs())
        return _ActivationSign.apply(x, self.scale())  # type: ignore[no-any-return]

    def packed_tensors(self) -> list[Packed]:
        """Scale, and two numbers a channel with ASM."""
        asm = [] if self.shift is None else [Packed("shift", 2 * self.shift.numel(), 32)]
        return super().packed_tensors() + asm


class ProbabilityBinarizer(Binarizer):
    """Attention probabilities to 0 and 1: round(clip(p / a, 0, 1)) with a learnable a, started at twice the mean (BiT).

    The gradient is the straight-through estimator of a * round(clip(p / a, 0, 1)) in p and in a.
    """

    low = 0.0

    def bits(self, x: Tensor) -> Tensor:
        """Which of x is above a / 2."""
        return x / self.scale() > 0.5

    def forward(self, x: Tensor) -> Tensor:
        """0 or 1, same shape."""
        if self.calibrating:
            self._calibrate(2 * x)
        return round_ste((x / self.scale()).clamp(0, 1))

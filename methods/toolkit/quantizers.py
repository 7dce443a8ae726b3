"""Quantizers: a grid of codes, how its scale is found, and its fake-quantized form.

A quantizer has a mode. `off` passes its input through; `observe` shows it to the observer and passes it through;
`calibrate` shows it, fixes the grid, then quantizes, so that what follows sees quantized inputs; `on` quantizes.
A quantizer that is on and was never given a grid refuses to compute. Mode and form of the grid are part of a plain
`state_dict`, so that a model that loads one computes as the model that gave it, or refuses it.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.toolkit.chunks import in_pieces

Mode = Literal["off", "observe", "calibrate", "on"]
_MODES: tuple[Mode, ...] = ("off", "observe", "calibrate", "on")


def round_ste(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes through unchanged (straight-through estimator)."""
    return x + (x.round() - x).detach()


class Grid(Protocol):
    """How a scale and zero point are found: shown tensors, then asked."""

    def update(self, x: Tensor) -> None:
        """Take note of a tensor."""

    def grid(self, bits: int) -> tuple[Tensor, Tensor]:
        """Scale and zero point: scalars per tensor, [C] per channel."""


class Quantizer(nn.Module):
    """Base of all quantizers: modes, codes and their decoding.

    Subclasses give `fit` (fix the grid from what was observed), `codes`, `decode` and, where a faster or
    differentiable form exists, `fake_quant`.
    """

    mode: Mode
    fitted: bool
    """Whether there is a grid."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.mode = "off"
        self.fitted = False

    @property
    def mean_bits(self) -> float:
        """Width averaged over a tensor's elements; only quantizers that mix widths in one tensor differ from `bits`."""
        return self.bits

    @property
    def code_limits(self) -> tuple[int, int]:
        """Smallest and largest code that `codes` gives."""
        raise NotImplementedError

    def observe(self, x: Tensor) -> None:
        """Take note of a tensor that the grid must serve."""
        raise NotImplementedError

    def fit(self) -> None:
        """Fix the grid from what was observed, and forget the observations."""
        raise NotImplementedError

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes of x (int32), same shape."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """The real values that codes stand for."""
        raise NotImplementedError

    def fake_quant(self, x: Tensor) -> Tensor:
        """decode(codes(x)); differentiable by straight-through where gradients are enabled."""
        return self.decode(self.codes(x))

    def evaluate(self, x: Tensor, out: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """`fake_quant` where no gradients are asked for; a quantizer that can writes into `out`, of x's strides."""
        return self.fake_quant(x)

    def overhead_bits(self) -> int:
        """Bits that the scale and zero point take in a shipped model: 32 for each stored number."""
        return 32 * sum(b.numel() for b in self.buffers())

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x; see the modes in the module's text."""
        if self.mode == "off":
            return x
        if self.mode != "on":
            self.observe(x.detach())
            if self.mode == "observe":
                return x
            self.fit()
        self.require_grid()
        return self.fake_quant(x)

    def require_grid(self) -> None:
        """Raise MethodInputError where there is no grid: quantizing without one would give wrong numbers in silence."""
        if not self.fitted:
            raise MethodInputError(
                f"a {type(self).__name__} of {self.bits} bits has no grid: calibrate the model, or load a saved one"
            )

    def form(self) -> list[int]:
        """What of the grid's form decides what its numbers mean, as integers; it cannot change by loading."""
        return [self.bits]

    def stored_state(self) -> dict[str, Tensor]:
        """The grid; MethodInputError where the quantizer is not on, since the saved model's are."""
        self.require_grid()
        if self.mode != "on":
            raise MethodInputError(f"a {type(self).__name__} is {self.mode}: a saved model's quantizers are all on")
        return dict(self.named_buffers(recurse=False))

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take the grid of `stored_state`, and quantize from now on; KeyError, ValueError for another form's."""
        raise NotImplementedError

    def get_extra_state(self) -> Tensor:
        """Mode, whether there is a grid, and its form: what a state_dict's scales do not say."""
        return torch.tensor([_MODES.index(self.mode), int(self.fitted), *self.form()])

    def set_extra_state(self, state: Tensor) -> None:
        """Take mode and grid of a state_dict; MethodInputError where it belongs to a grid of another form."""
        mode, fitted, *form = state.tolist()
        if form != self.form():
            raise MethodInputError(
                f"this state_dict is of a model with other widths or grids: {form} where this {type(self).__name__} "
                f"has {self.form()}"
            )
        self.mode, self.fitted = _MODES[mode], bool(fitted)


class UniformQuantizer(Quantizer):
    """Uniform grid: x_hat = (clamp(round(x/D) + z, lo, hi) - z) * D.

    Asymmetric: codes 0..2^b-1. Symmetric: codes -2^(b-1)..2^(b-1)-1 and z = 0. `axis` is the channel dimension of a
    per-channel grid, None for one grid a tensor.

    The zero point need not be an integer: RepQ-ViT's released code averages zero points without rounding. Then the
    values inside the range are still multiples of D, and the two ends of the range, -z*D and (2^b-1-z)*D, are not:
    2^b + 1 different values, one more than b bits hold. Their codes are 0..2^b, the ends included, with ceil(z) the
    code of zero; `code_limits` says so, and nothing is rounded behind the reader's back.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, bits: int, grid: Grid, axis: int | None = None, symmetric: bool = False, channels: int = 1):
        super().__init__(bits)
        self.grid, self.axis, self.symmetric = grid, axis, symmetric
        shape = () if axis is None else (channels,)
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("zero_point", torch.zeros(shape))

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest code for an integer zero point."""
        return (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) if self.symmetric else (0, 2**self.bits - 1)

    @property
    def code_limits(self) -> tuple[int, int]:
        """Smallest and largest code that `codes` gives: one more than `limits` where a zero point is no integer."""
        lo, hi = self.limits
        return lo, hi + int(bool((self.zero_point != self.zero_point.round()).any()))

    def observe(self, x: Tensor) -> None:
        """Show x to the grid's observer."""
        self.grid.update(x)

    def fit(self) -> None:
        """Ask the observer for scale and zero point."""
        self.set_grid(*self.grid.grid(self.bits))

    def set_grid(self, scale: Tensor, zero_point: Tensor) -> None:
        """Fix scale and zero point, both scalar or both [C]; a per-tensor grid may replace a per-channel one."""
        self.scale = scale.detach().clone()
        self.zero_point = zero_point.detach().clone()
        self.fitted = True
        if scale.ndim == 0:
            self.axis = None

    def form(self) -> list[int]:
        """Width, signed or not, and the channel dimension, -99 for one grid a tensor."""
        return [self.bits, int(self.symmetric), -99 if self.axis is None else self.axis]

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take scale and zero point, and quantize from now on; ValueError for a grid of another shape."""
        scale, zero_point = state["scale"], state["zero_point"]
        if scale.shape != zero_point.shape or (scale.ndim and scale.shape != self.scale.shape):
            raise ValueError(f"the grid has shape {list(scale.shape)}, not {list(self.scale.shape)}")
        self.set_grid(scale.to(self.scale.device), zero_point.to(self.scale.device))
        self.mode = "on"

    def _shaped(self, parameter: Tensor, x: Tensor) -> Tensor:
        if self.axis is None or parameter.ndim == 0:
            return parameter
        shape = [1] * x.ndim
        shape[self.axis] = -1
        return parameter.view(shape)

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes (int32), clamp(round(x/D) + ceil(z), lo, hi + [z is no integer])."""
        scale, zero = self._shaped(self.scale, x), self._shaped(self.zero_point, x)
        lo, hi = self.limits
        zero_code = zero.ceil()
        steps = torch.round(x / scale)
        return torch.minimum((steps + zero_code).clamp_min(lo), hi + (zero_code != zero).to(x.dtype)).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """clamp(codes - ceil(z), lo - z, hi - z) * D; for an integer zero point (codes - z) * D."""
        scale, zero = self._shaped(self.scale, codes), self._shaped(self.zero_point, codes)
        lo, hi = self.limits
        return torch.clamp(codes - zero.ceil(), lo - zero, hi - zero) * scale

    def fake_quant(self, x: Tensor) -> Tensor:
        """Quantize and dequantize; straight-through inside the clipping range when gradients are enabled."""
        if torch.is_grad_enabled() and (x.requires_grad or self.scale.requires_grad):
            scale, zero = self._shaped(self.scale, x), self._shaped(self.zero_point, x)
            lo, hi = self.limits
            return torch.clamp(round_ste(x / scale), lo - zero, hi - zero) * scale
        return self.evaluate(x)

    def evaluate(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Quantize and dequantize without gradients; a grid of one step does so in pieces, and into `out`."""
        scale, zero = self._shaped(self.scale, x), self._shaped(self.zero_point, x)
        lo, hi = self.limits
        step, low, high = scalar(scale), scalar(lo - zero), scalar(hi - zero)
        if isinstance(step, Tensor):
            y: Tensor = (x / step).round_().clamp_(low, high).mul_(step)
            return y
        return in_pieces(x, lambda part, y: torch.div(part, step, out=y).round_().clamp_(low, high).mul_(step), out)


def scalar(x: Tensor) -> Any:
    """A CPU tensor of one element as a number, with which torch computes faster; others as they are."""
    return x.item() if x.numel() == 1 and x.device.type == "cpu" else x

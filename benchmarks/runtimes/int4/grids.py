"""Grids as the kernels take them, and why another has no INT8 form."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vitq.methods.repq_vit.log_quantizers import LogQuantizer
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer

Array = np.ndarray[Any, Any]

EXACT = 2**22
"""Zero points up to here are integers in float32, and so are the codes beside them."""
LOG_BITS = 4
"""Widest logarithmic grid whose values, in two halves, are integers of 8 bits."""


def uniform_reason(quantizer: Quantizer | None) -> str | None:
    """Why an operand has no grid of 8-bit integers, or None."""
    if quantizer is None:
        return "it is not quantized"
    if not isinstance(quantizer, UniformQuantizer):
        return f"a {type(quantizer).__name__} is no uniform grid"
    if quantizer.mode != "on" or not quantizer.fitted:
        return "its quantizer is not on"
    if quantizer.bits > 8:
        return f"{quantizer.bits} bits are more than 8"
    zero = quantizer.zero_point
    if bool((zero != zero.round()).any()):
        return f"its zero point {_first_fraction(zero):g} is no integer (repq_vit: rounded_zero_point)"
    return None if bool((zero.abs() < EXACT).all()) else "its zero point is too far from its codes"


def input_reason(quantizer: Quantizer | None) -> str | None:
    """As `uniform_reason`, of activations, which need one grid a tensor."""
    reason = uniform_reason(quantizer)
    if reason is None and isinstance(quantizer, UniformQuantizer) and quantizer.scale.numel() != 1:
        return "a grid for each channel of activations does not factor out of a product"
    return reason


def attention_reason(quantizer: Quantizer | None) -> str | None:
    """As `input_reason`, of attention after softmax: a logarithmic grid of up to 4 bits does too."""
    if not isinstance(quantizer, LogQuantizer):
        return input_reason(quantizer)
    if quantizer.mode != "on" or not quantizer.fitted:
        return "its quantizer is not on"
    wide = f"a logarithmic grid of {quantizer.bits} bits spans more than 8-bit integers hold"
    return wide if quantizer.bits > LOG_BITS or quantizer.steps not in (1, 2) else None


def grid_of(quantizer: Quantizer | None) -> Array:
    """D, lo - z, hi - z and z as float32, or of a logarithmic grid its scale and last code."""
    if isinstance(quantizer, LogQuantizer):
        return np.array([float(quantizer.scale), quantizer.code_limits[1], 0, 0], np.float32)
    assert isinstance(quantizer, UniformQuantizer)
    (low, high), zero = quantizer.limits, float(quantizer.zero_point)
    if quantizer.symmetric:  # codes from 0 on
        zero, low, high = zero - low, 0, high - low
    return np.array([float(quantizer.scale), low - zero, high - zero, zero], np.float32)


def half_factors(quantizer: LogQuantizer) -> tuple[float, float]:
    """What an integer of either half of a logarithmic grid is worth, see `kernels.shifts_of_row`."""
    scale = float(quantizer.scale) / 128
    return scale, scale * (2**-0.5 if quantizer.steps == 2 else 2.0**-8)


def _first_fraction(zero: Tensor) -> float:
    return float(zero[zero != zero.round()].reshape(-1)[0])

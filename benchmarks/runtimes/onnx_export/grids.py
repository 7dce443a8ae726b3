"""A quantizer's grid as ONNX has it: an integer type, a scale, an integer zero point, and the codes that may occur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from vitq.errors import UnsupportedError
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer

Array = NDArray[Any]


@dataclass(frozen=True)
class Grid:
    """x_hat = (clamp(round(x/D) + z, low, high) - z) * D with integer z; `axis` is the channels' dimension or None."""

    scale: Array
    zero: Array
    low: int
    high: int
    axis: int | None

    @property
    def bounds(self) -> tuple[Array, Array]:
        """The smallest and the largest value that a code stands for, (low - z) * D and (high - z) * D."""
        return (self.low - self.zero) * self.scale, (self.high - self.zero) * self.scale

    @property
    def storage(self) -> int:
        """The 8-bit type of activations: INT8 where codes are signed, else UINT8."""
        return int(TensorProto.INT8 if self.low < 0 else TensorProto.UINT8)

    @property
    def has_zero(self) -> bool:
        """Whether the zero point is a code of the 8-bit type; where a range lies away from zero it is not."""
        least = -128 if self.low < 0 else 0
        return bool(((self.zero >= least) & (self.zero <= least + 255)).all())

    @property
    def fills(self) -> bool:
        """Whether the grid has every code of 8 bits, so that the type itself clamps."""
        return self.high - self.low == 255


def grid_of(quantizer: Quantizer, where: str) -> Grid:
    """A uniform quantizer's grid; UnsupportedError for a fractional zero point and for another kind of quantizer.

    Grids a channel are a weight's over its rows (0) or an activation's over its last dimension (-1).
    """
    if not isinstance(quantizer, UniformQuantizer):
        raise UnsupportedError(f"{where} is on a {type(quantizer).__name__}, which has no QDQ form")
    if quantizer.mode != "on":
        raise UnsupportedError(f"{where} has a quantizer that is {quantizer.mode}: an exported model's are all on")
    zero = quantizer.zero_point.detach().cpu().double()
    if bool((zero != zero.round()).any()):
        value = float(zero[zero != zero.round()].flatten()[0])
        raise UnsupportedError(
            f"{where} has the fractional zero point {value:.4g}, and ONNX's are integers: "
            "quantize with rounded_zero_point"
        )
    if quantizer.zero_point.ndim and quantizer.axis not in (0, -1):
        raise UnsupportedError(f"{where} has a grid along dimension {quantizer.axis}: only the first and the last are")
    low, high = quantizer.limits
    scale = quantizer.scale.detach().cpu().numpy().astype(np.float32)
    return Grid(scale, zero.numpy().astype(np.int64), low, high, quantizer.axis if scale.ndim else None)


@dataclass(frozen=True)
class WeightCodes:
    """Signed codes of a weight [out, ...] and its grid an output channel: weight = (codes - zero) * scale.

    Codes of asymmetric grids, 0..2^b-1, are shifted by half their range, so that all are signed and most zeros small.
    """

    codes: Array
    scale: Array
    zero: Array
    bits: int

    @property
    def storage(self) -> int:
        """INT4 for up to 4 bits, else INT8."""
        return int(TensorProto.INT4 if self.bits <= 4 else TensorProto.INT8)


def weight_codes(layer: Any, where: str) -> WeightCodes:
    """Codes of a quantized layer's weight; UnsupportedError as `grid_of`."""
    grid = grid_of(layer.weight_quantizer, where)
    with torch.no_grad():
        codes = layer.weight_codes().cpu().numpy().astype(np.int64)
    half = 0 if grid.low < 0 else 2 ** (layer.weight_quantizer.bits - 1)
    rows = codes.shape[0]
    scale, zero = np.broadcast_to(grid.scale, (rows,)), np.broadcast_to(grid.zero - half, (rows,))
    return WeightCodes(codes - half, scale.astype(np.float32), zero, layer.weight_quantizer.bits)

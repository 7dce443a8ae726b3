"""Grids of activations in ONNX's operators, and the product of two activations."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto

from vitq.benchmarks.runtimes.onnx_export.grids import Grid
from vitq.benchmarks.runtimes.onnx_export.writer import Writer
from vitq.methods.repq_vit.log_quantizers import LogQuantizer

_LEAST = 1e-30
"""A probability that no sum of float32 probabilities can tell from zero."""


def write_grid(to: Writer, x: str, grid: Grid, out: str) -> None:
    """QuantizeLinear and DequantizeLinear; a narrower grid is clamped first, to what its first and last code mean.

    A grid a channel, or one whose zero point is no code of 8 bits, is rounded in floating point: no kernel takes it.
    """
    if not grid.has_zero or grid.axis is not None:
        _write_rounding(to, x, grid, out)
        return
    source = x
    if not grid.fills:
        low, high = (to.constant(bound.astype(np.float32), out) for bound in grid.bounds)
        x = to.add("Clip", [x, low, high], f"{out}.clipped")
    scale, zero = to.constant(grid.scale, out), to.integers(grid.zero, grid.storage, out)
    codes = to.add("QuantizeLinear", [x, scale, zero], f"{out}.codes")
    to.add("DequantizeLinear", [codes, scale, zero], out)
    to.on_grid[out] = grid, source


def _write_rounding(to: Writer, x: str, grid: Grid, out: str) -> None:
    """clamp(round(x/D), low - z, high - z) * D."""
    scale = to.constant(grid.scale, out)
    low, high = (to.constant((end - grid.zero).astype(np.float32), out) for end in (grid.low, grid.high))
    steps = to.add("Round", [to.add("Div", [x, scale], f"{out}.ratio")], f"{out}.steps")
    kept = to.add("Min", [to.add("Max", [steps, low], f"{out}.raised"), high], f"{out}.kept")
    to.add("Mul", [kept, scale], out)


def write_log(to: Writer, x: str, quantizer: LogQuantizer, out: str) -> None:
    """The code c = round(-k*log2(x/s)) in its limits, and s * 2^(-c/k), as RepQ-ViT's shifts give it (equation 14).

    With k = 2 that is a shift by whole octaves, with a root of two where c is odd. `Exp` computes it as floating-point
    units do: runtimes have no vectorized `Pow` and no shift of floating-point numbers.
    """
    scale, steps = float(quantizer.scale), quantizer.steps
    low, high = (to.number(limit, out) for limit in quantizer.code_limits)
    octaves = to.add("Mul", [_log_ratio(to, x, scale, out), to.number(-steps / math.log(2), out)], f"{out}.octaves")
    codes = to.add("Clip", [to.add("Round", [octaves], f"{out}.rounded"), low, high], f"{out}.codes")
    shift = to.add("Mul", [codes, to.number(-math.log(2) / steps, out)], f"{out}.shift")
    last = scale * 2.0 ** (-quantizer.code_limits[1] / steps)
    zeroed = quantizer.overflow == "zero" and last > _LEAST
    value = f"{out}.value" if zeroed else out
    to.add("Mul", [to.add("Exp", [shift], f"{out}.power"), to.number(scale, out)], value)
    if zeroed:
        within = to.add("Less", [codes, high], f"{out}.within")
        to.add("Where", [within, value, to.number(0, out)], out)


def _log_ratio(to: Writer, x: str, scale: float, out: str) -> str:
    """log(x/s). Of a softmax it is l - max(l) - log(sum exp(l - max(l))) - log(s): one logarithm a row, no quotient."""
    softmax = to.softmax.get(x)
    if softmax is None:
        return to.add("Log", [to.add("Div", [x, to.number(scale, out)], f"{out}.ratio")], f"{out}.log")
    logits, last = softmax.input[0], to.constant(np.array([-1], np.int64), out)
    below = to.add("Sub", [logits, to.add("ReduceMax", [logits, last], f"{out}.top", keepdims=1)], f"{out}.below")
    terms = to.add("Exp", [below], f"{out}.exp")
    total = to.add("ReduceSum", [terms, last], f"{out}.total", keepdims=1)
    row = to.add("Add", [to.add("Log", [total], f"{out}.log"), to.number(math.log(scale), out)], f"{out}.row")
    return to.add("Sub", [below, row], f"{out}.exponent")


def write_product(to: Writer, node: onnx.NodeProto) -> None:
    """A product of two activations whose zero points are taken off apart, as sums over what is multiplied.

    With A = A' - a and B = B' - b, where A' and B' are on signed codes without zero point and a, b what these lack,
    AB = A'B' - a sum(B') - b sum(A), sums over the inner dimension. OpenVINO multiplies INT8 without zero points only.
    """
    name, (left, right) = node.output[0], node.input
    (plain_left, a), (plain_right, b) = _without_zero(to, left), _without_zero(to, right)
    node.input[0], node.input[1] = plain_left, plain_right
    size = to.shapes[left][-1]
    steps = [(a, plain_right, -2, f"{name}.columns"), (b, left, -1, f"{name}.rows")]
    lacking = [step for step in steps if step[0]]
    last = node.output[0] = f"{name}.product" if lacking else name
    to.nodes.append(node)
    for lack, operand, axis, own in lacking:
        total = to.total(operand, size, f"{own}.sum", axis)
        less = to.add("Mul", [total, to.number(lack, own)], f"{own}.less")
        last = to.add("Sub", [last, less], name if own == lacking[-1][3] else own)


def _without_zero(to: Writer, name: str) -> tuple[str, float]:
    """The tensor that the same codes are, signed and without a zero point, and how much that is too much."""
    grid, source = to.on_grid[name]
    zero = int(grid.zero) - (0 if grid.low < 0 else (grid.high + 1) // 2)
    if int(grid.zero) == 0:
        return name, 0.0
    if not grid.fills:
        low, high = (to.constant(bound.astype(np.float32), name) for bound in grid.bounds)
        source = to.add("Clip", [source, low, high], f"{name}.signed.clipped")
    scale = to.constant(grid.scale, name)
    point, none = (to.integers(np.array(value), TensorProto.INT8, name) for value in (zero, 0))
    codes = to.add("QuantizeLinear", [source, scale, point], f"{name}.signed.codes")
    return to.add("DequantizeLinear", [codes, scale, none], f"{name}.signed"), float(zero * grid.scale)

"""Layers with quantized weights in ONNX's operators: codes, and what a zero point of the weight adds taken off apart.

x W^T with W = (Q - z) D is x (Q D)^T - sum(x) (z D): kernels for INT8 take no zero points of weights.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from vitq.benchmarks.runtimes.onnx_export.grids import WeightCodes
from vitq.benchmarks.runtimes.onnx_export.writer import Writer


def write_layer(to: Writer, node: onnx.NodeProto, weight: WeightCodes) -> None:
    """A MatMul, Gemm or Conv whose second input is a quantized weight; a bias that it adds is added last."""
    name, bias = node.output[0], node.input[2] if len(node.input) > 2 else None
    linear = node.op_type != "Conv"
    product = helper.make_node("MatMul" if linear else "Conv", [node.input[0], ""], [""], name=node.name)
    if not linear:
        product.attribute.extend(node.attribute)
    product.input[1] = _dequantized(to, weight, name, linear)
    product.output[0] = f"{name}.product" if bias or weight.zero.any() else name
    to.nodes.append(product)
    last = product.output[0]
    if weight.zero.any():
        total = _input_sum(to, node, weight, name, linear)
        shift = (weight.zero * weight.scale).astype(np.float32)
        shift = shift if linear else shift.reshape(-1, *[1] * (weight.codes.ndim - 2))
        less = to.add("Mul", [total, to.constant(shift, name)], f"{name}.less")
        last = to.add("Sub", [last, less], f"{name}.corrected" if bias else name)
    if bias:
        to.add("Add", [last, bias if linear else _column(to, bias, weight, name)], name)


def _input_sum(to: Writer, node: onnx.NodeProto, weight: WeightCodes, name: str, linear: bool) -> str:
    """The sum of the inputs of each output; of a convolution one more output channel, with ones for a weight."""
    if linear:
        return to.total(node.input[0], weight.codes.shape[1], f"{name}.sum")
    ones = to.constant(np.ones((1, *weight.codes.shape[1:]), np.float32), name)
    added = helper.make_node("Conv", [node.input[0], ones], [f"{name}.sum"], name=f"{name}.sum/Conv")
    added.attribute.extend(node.attribute)
    to.nodes.append(added)
    return f"{name}.sum"


def _column(to: Writer, bias: str, weight: WeightCodes, name: str) -> str:
    """A convolution's bias as it is added to [B, C, H, W]."""
    shape = to.constant(np.array([-1, *[1] * (weight.codes.ndim - 2)], np.int64), name)
    return to.add("Reshape", [bias, shape], f"{name}.bias")


def _dequantized(to: Writer, weight: WeightCodes, name: str, linear: bool) -> str:
    """The weight less its zero points, [in, out] or [out, in, h, w]: codes and a scale an output channel.

    4-bit codes are stored as INT4 and widened when the model is loaded: runtimes have kernels for INT8.
    """
    codes = weight.codes.T if linear else weight.codes
    stored = to.integers(codes, weight.storage, name)
    if weight.storage == TensorProto.INT4:
        stored = to.add("Cast", [stored], f"{name}.wide", to=TensorProto.INT8)
    scale = to.constant(weight.scale, name)
    return to.add("DequantizeLinear", [stored, scale], f"{name}.weight", axis=1 if linear else 0)

"""What an ONNX file weighs and how much it multiplies, at the widths that its numbers have.

Parameters are the elements of its floating-point and integer constants, but for those of grids (scales, zero points),
for single numbers, and for 64-bit integers, which are shapes. Packed is what all constants take at the widths that the
file declares: codes narrower than their type count as the type. MACs are of the shapes that tensors really have when
the model runs once. A product's operand has the width of what `DequantizeLinear` makes it of, or of the integers that
are multiplied (`onnx_widths`); all else is 32 bits wide. BitOPs and OPs follow as everywhere (`measure.accounting`).
A file that vitq wrote is called by the widths that it was asked for, which it says.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitq.benchmarks.foreign.model import Facts
from vitq.benchmarks.foreign.onnx_widths import OURS, Widths, width_of_type
from vitq.benchmarks.foreign.widths import Counted, label_of
from vitq.benchmarks.measure.conventions import Product, bitops, ops
from vitq.benchmarks.measure.exporting import BITS
from vitq.methods.bits import Bits
from vitq.record import Operations, Size

GRIDS = {
    "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QLinearConv": (1, 2, 4, 5, 6, 7), "QGemm": (1, 2, 4, 5, 7, 8), "MatMulInteger": (2, 3), "ConvInteger": (2, 3),
    "DynamicQuantizeMatMul": (2, 3), "MatMulIntegerToFloat": (2, 3, 4, 5), "MatMulNBits": (2, 3),
}  # fmt: skip
"""Inputs of operators that are scales or zero points."""
OPERANDS = {
    "MatMul": (0, 1), "Gemm": (0, 1), "Conv": (0, 1), "MatMulInteger": (0, 1), "ConvInteger": (0, 1),
    "QLinearMatMul": (0, 3), "QLinearConv": (0, 3), "QGemm": (0, 3), "DynamicQuantizeMatMul": (0, 1),
    "MatMulIntegerToFloat": (0, 1), "FusedMatMul": (0, 1), "FusedGemm": (0, 1), "FusedConv": (0, 1),
}  # fmt: skip
"""Operators that multiply, and which of their inputs."""
UNCOUNTED = ("MatMulNBits", "Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention", "Einsum",
             "ConvTranspose", "LSTM", "GRU", "QEmbedLayerNormalization", "MatMulBnb4", "MoE", "QMoE")  # fmt: skip
"""Operators that multiply in a way that is not counted here."""


def counted_model(model: Any, path: Path, facts: Facts) -> Facts:
    """The facts with size, operations and widths, or why they are not there."""
    unknown: list[str] = []
    size = _size(model)
    try:
        found = list(_products(model, path, facts))
    except _UncountableError as error:
        found = []
        unknown.append(f"operations are not counted: {error}")
    operations = None
    products = [each.product for each in found]
    if products:
        macs = sum(product.macs for product in products)
        operations = Operations(macs=macs, bitops=round(bitops(products)), ops=ops(products))
    seen = label_of(found) if found else _label_by_type(model)
    bits = seen if seen == "FP32" or model.producer_name != OURS else _told(facts) or seen
    return replace(facts, size=size, operations=operations, bits=bits, unknown=tuple(unknown))


def _told(facts: Facts) -> str:
    """The widths that vitq wrote into its file; empty where it wrote none, as before they were, or none that are."""
    try:
        return str(Bits.parse(facts.written.get(BITS, "")))
    except ValueError:
        return ""


class _UncountableError(Exception):
    """Why operations are not counted, in words."""


def _size(model: Any) -> Size | None:
    grids = {name for node in _every_node(model) for name in _grid_inputs(node)}
    params, stored = 0, 0
    for tensor in _constants(model):
        elements = math.prod(tensor.dims)
        stored += -(-elements * width_of_type(tensor.data_type) // 8)
        if elements > 1 and tensor.name not in grids and _is_number(tensor.data_type):
            params += elements
    return Size(params=params, fp32_mb=params * 4 / 1e6, packed_mb=stored / 1e6) if params and stored else None


def _grid_inputs(node: Any) -> list[str]:
    return [node.input[at] for at in GRIDS.get(node.op_type, ()) if at < len(node.input)]


def _every_node(model: Any) -> Iterator[Any]:
    from vitq.benchmarks.foreign.onnx_files import nodes

    return nodes(model)


def _constants(model: Any) -> Iterator[Any]:
    """Initializers, and the values of Constant nodes under the names of their outputs."""
    yield from model.graph.initializer
    for node in _every_node(model):
        if node.op_type != "Constant":
            continue
        for attribute in node.attribute:
            if attribute.HasField("t"):
                attribute.t.name = node.output[0]
                yield attribute.t


def _is_number(kind: int) -> bool:
    from onnx import TensorProto

    return TensorProto.DataType.Name(kind) not in ("INT64", "UINT64", "BOOL", "STRING")


def _products(model: Any, path: Path, facts: Facts) -> Iterator[Counted]:
    """Every product of the graph with its MACs of one image and its operands' widths."""
    if model.functions:
        raise _UncountableError("its operators are functions of its own")
    found = [node for node in model.graph.node if node.op_type in OPERANDS]
    other = next((node for node in _every_node(model) if node.op_type in UNCOUNTED), None)
    if other is not None:
        raise _UncountableError(f"{other.op_type} multiplies in a way that is not counted")
    inside = sum(node.op_type in OPERANDS for node in _every_node(model)) - len(found)
    if inside or not found:
        raise _UncountableError(
            "it multiplies inside branches or loops" if inside else "it has no product that is known"
        )
    names = {name for node in found for name in (*_operands(node), node.output[0])}
    shapes, batch = _shapes(model, path, facts, sorted(names))
    widths = Widths(model, {tensor.name: tensor for tensor in _constants(model)})
    for node in found:
        left, right = _operands(node)
        macs = _macs(node, shapes[left], shapes[right], shapes[node.output[0]])
        weight = math.prod(shapes[right]) if widths.is_constant(right) else 0
        of_left, of_right = widths.of(left), widths.of(right)
        product = Product(node.name or node.output[0], macs // batch, of_left.bits, of_right.bits, weight, 0)
        yield Counted(product, of_left.proven and of_right.proven)


def _operands(node: Any) -> tuple[str, str]:
    left, right = OPERANDS[node.op_type]
    return node.input[left], node.input[right]


def _macs(node: Any, left: list[int], right: list[int], out: list[int]) -> int:
    """MACs of a product by the shapes of its operands and output."""
    if "Conv" in node.op_type:
        return math.prod(out) * math.prod(right[1:])
    told = {attribute.name: attribute.i for attribute in node.attribute}
    return math.prod(out) * (left[-2] if told.get("transA") and len(left) > 1 else left[-1])


def _shapes(model: Any, path: Path, facts: Facts, names: list[str]) -> tuple[dict[str, list[int]], int]:
    """Shapes of tensors as they are when the model runs on one batch of zeros, and how many images were in it."""
    import onnx
    import onnxruntime

    height, width = facts.sides
    if height is None or width is None:
        raise _UncountableError("its input may have any size")
    constants = {tensor.name: list(tensor.dims) for tensor in _constants(model)}
    made = {name for node in model.graph.node for name in node.output} - set(constants)
    wanted = [name for name in names if name in made]
    told = onnx.ModelProto()
    told.CopyFrom(model)
    kept = {output.name for output in told.graph.output}
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in kept)
    batch = facts.batch or 1
    taken = {tensor.name for tensor in model.graph.initializer}
    images = next(each.name for each in model.graph.input if each.name not in taken)
    zeros = np.zeros((batch, 3, height, width), np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent if _outside(model) else None, suffix=".onnx") as file:
            file.write(told.SerializeToString())
            file.flush()
            session = onnxruntime.InferenceSession(file.name, options, providers=["CPUExecutionProvider"])
        values = session.run(wanted, {images: zeros})
    except Exception as error:  # whatever onnxruntime raises, and a folder that may not be written
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise _UncountableError(f"its shapes are not known ({reason})") from None
    shapes = {name: list(value.shape) for name, value in zip(wanted, values, strict=True)}
    return {images: list(zeros.shape), **constants, **shapes}, batch


def _outside(model: Any) -> bool:
    return any(tensor.external_data for tensor in model.graph.initializer)


def _label_by_type(model: Any) -> str:
    """Widths where no product could be counted: `FP32` where the model has no codes, else `?`."""
    narrow = any(width_of_type(tensor.data_type) < 16 and _is_number(tensor.data_type) for tensor in _constants(model))
    quantized = any("Quant" in node.op_type or "NBits" in node.op_type for node in _every_node(model))
    return "?" if narrow or quantized else "FP32"

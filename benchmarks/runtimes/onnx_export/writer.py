"""Nodes and constants of an ONNX graph that is being written, in the order in which they are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vitq.benchmarks.runtimes.onnx_export.grids import Array, Grid

OPSET = 21
"""The first with 4-bit types for QuantizeLinear and DequantizeLinear."""
IR_VERSION = 10


class Writer:
    """A graph's nodes and constants, and which of its tensors are on a grid."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.on_grid: dict[str, tuple[Grid, str]] = {}
        """Of a tensor on a per-tensor grid: that grid, and the floating-point tensor that it was made of."""
        self.shapes: dict[str, list[int]] = {}
        """Of tensors on a grid: their shape."""
        self.softmax: dict[str, onnx.NodeProto] = {}
        """Softmax nodes by their output."""

    def add(self, kind: str, inputs: list[str], out: str, **attributes: Any) -> str:
        """A node with one output; returns that."""
        self.nodes.append(helper.make_node(kind, inputs, [out], name=f"{out}/{kind}", **attributes))
        return out

    def number(self, value: float, near: str) -> str:
        """A float32 constant."""
        return self.constant(np.float32(value), near)

    def constant(self, value: Any, near: str) -> str:
        """A constant of an array or an ONNX tensor; `near` is a tensor that it serves, for its name."""
        tensor = value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value))
        tensor.name = f"{near}.constant{len(self.graph.initializer)}"
        self.graph.initializer.append(tensor)
        return str(tensor.name)

    def integers(self, values: Array, kind: int, near: str) -> str:
        """A constant of one of ONNX's 8- or 4-bit types; of the latter two lie in a byte, the first in its low half."""
        if kind == TensorProto.INT4:
            nibbles = np.append(values.flatten(), [0] * (values.size % 2)).astype(np.int8).view(np.uint8) & 15
            packed = (nibbles[::2] | nibbles[1::2] << 4).tobytes()
            return self.constant(helper.make_tensor("", kind, values.shape, packed, raw=True), near)
        return self.constant(values.astype(helper.tensor_dtype_to_np_dtype(kind)), near)

    def total(self, x: str, size: int, out: str, axis: int = -1) -> str:
        """The sum over the last dimension, or that before it (-2), of `size`; it stays with size 1.

        As a product with ones, so that integers stay integers: OpenVINO 2026.4 sums INT8 tensors wrongly by ReduceSum
        where the first dimension is longer than the second.
        """
        shape = (size, 1) if axis == -1 else (1, size)
        codes = self.integers(np.ones(shape, np.int64), TensorProto.INT8, out)
        ones = self.add("DequantizeLinear", [codes, self.number(1, out)], f"{out}.ones")
        return self.add("MatMul", [x, ones] if axis == -1 else [ones, x], out)

    def finish(self) -> onnx.ModelProto:
        """The model, without what nothing reads, checked by ONNX's own checker."""
        read = {tensor.name for tensor in self.graph.output}
        needed = []
        for node in reversed(self.nodes):
            if read.intersection(node.output):
                needed.append(node)
                read.update(node.input)
        del self.graph.node[:], self.graph.value_info[:]
        self.graph.node.extend(reversed(needed))
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(self.graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="vitq")
        onnx.checker.check_model(model, full_check=True)
        return model

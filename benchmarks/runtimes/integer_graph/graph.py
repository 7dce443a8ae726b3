"""ONNX graphs of integer operators whose every intermediate is proved to fit its type while the graph is written.

A `Value` carries the least and the largest number that it can hold. ONNX has shifts of unsigned integers alone and an
integer division that truncates, so that what is shifted or divided here is not negative: then both floor, as I-ViT's
`>>` does. A number that would not fit is an UnsupportedError at export, never an overflow at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from vitq.errors import UnsupportedError

OPSET = 18
IR_VERSION = 9
KINDS = {
    "uint8": (0, 2**8 - 1),
    "int8": (-(2**7), 2**7 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
"""Integer types of the graph and what they hold."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name, type and shape, and the range of its numbers."""

    name: str
    kind: str
    shape: tuple[int, ...]
    low: int
    high: int

    def fits(self, kind: str) -> bool:
        """Whether every number of it is one of the type."""
        return KINDS[kind][0] <= self.low and self.high <= KINDS[kind][1]


class Graph:
    """A graph that is being written: nodes and constants in order; every method appends a node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.known: dict[tuple[str, tuple[int, ...], bytes], Value] = {}

    def constant(self, numbers: Any, kind: str) -> Value:
        """Integers, a tensor of int64 or Python's of any size, as a constant of a type; each distinct one once.

        UnsupportedError where they do not fit it.
        """
        exact = numbers.numpy() if isinstance(numbers, Tensor) else np.asarray(numbers, dtype=object)
        found = _checked("constant", Value("", kind, exact.shape, int(exact.min()), int(exact.max())))
        array = exact.astype(kind)
        key = (kind, exact.shape, array.tobytes())
        if key not in self.known:
            name = f"c{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, name))
            self.known[key] = replace(found, name=name)
        return self.known[key]

    def scale(self, number: float) -> str:
        """A float32 scale, of the image or of the logits."""
        name = f"scale{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(number, np.float32), name))
        return name

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node with one output; its name is the output's."""
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def put(
        self, op: str, inputs: Sequence[Value], kind: str, shape: Sequence[int], low: int, high: int, **attributes: Any
    ) -> Value:
        """A node whose output's range is known; UnsupportedError where its type does not hold that."""
        found = _checked(op, Value("", kind, tuple(shape), low, high))
        return replace(found, name=self.node(op, [x.name for x in inputs], **attributes))

    def cast(self, x: Value, kind: str) -> Value:
        """The same numbers in another type that holds them all."""
        if x.kind == kind:
            return x
        return self.put("Cast", [x], kind, x.shape, x.low, x.high, to=getattr(TensorProto, kind.upper()))

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """The same numbers in another shape."""
        to = self.constant(list(shape), "int64")
        return self.put("Reshape", [x, to], x.kind, shape, x.low, x.high)

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """Dimensions in another order."""
        shape = [x.shape[i] for i in order]
        return self.put("Transpose", [x], x.kind, shape, x.low, x.high, perm=list(order))

    def part(self, x: Value, axis: int, index: int) -> Value:
        """One place of a dimension, which is gone."""
        at = self.constant(index, "int64")
        return self.put("Gather", [x, at], x.kind, x.shape[:axis] + x.shape[axis + 1 :], x.low, x.high, axis=axis)

    def join(self, parts: Sequence[Value], axis: int) -> Value:
        """Parts one after another along a dimension; those of one type."""
        shape = list(parts[0].shape)
        shape[axis] = sum(x.shape[axis] for x in parts)
        low, high = min(x.low for x in parts), max(x.high for x in parts)
        return self.put("Concat", parts, parts[0].kind, shape, low, high, axis=axis)

    def model(self, images: tuple[int, ...], output: str, shape: tuple[int, ...], about: str) -> onnx.ModelProto:
        """The finished model, from images to float32 logits of a shape; `about` is its description."""
        given = helper.make_tensor_value_info("images", TensorProto.FLOAT, images)
        made = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "i_vit", [given], [made], self.constants)
        found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        found.doc_string, found.producer_name = about, "vitq"
        return found


def _checked(op: str, x: Value) -> Value:
    if not x.fits(x.kind):
        raise UnsupportedError(f"{op}: numbers from {x.low} to {x.high} do not fit {x.kind}")
    return x

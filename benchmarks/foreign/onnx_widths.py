"""How wide the numbers are that an ONNX file multiplies: by the codes behind them and their clamps, else by the type.

A clamp is a `Clip`, or a `Max` under a `Min`, of constants: before `QuantizeLinear`, between it and `DequantizeLinear`,
or of a `Round` in floating point, as what runs without integers is written. Of weights the codes themselves are looked
at. A file that vitq wrote has each weight on the grid that its codes fill, so that these say its width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitq.benchmarks.foreign.widths import FLOAT, Width, needed, of_codes

Array = NDArray[Any]
OURS = "vitq"
"""What vitq calls itself as the producer of a file."""
PASSED_ON = (
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Identity",
    "Slice",
    "Gather",
    "Split",
    "Expand",
)
"""Operators that move numbers and leave their width as it is."""
SCALED = ("Mul", "Div", "Add", "Sub", "Exp", "Neg")
"""Operators that, of one number and constants, make another one: they tell no more numbers apart than there were."""
NARROW = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
"""Types of less than a byte."""


class Clamp(NamedTuple):
    """What is clamped, the ends, and whether integers of the ends' type have a sign."""

    source: str
    low: Array
    high: Array
    signed: bool


def _type_name(kind: int) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(kind))


def width_of_type(kind: int) -> int:
    """Bits of a type of ONNX's."""
    from onnx import helper

    name = _type_name(kind)
    if name in NARROW:
        return NARROW[name]
    return 8 if name.startswith("FLOAT8") else 8 * int(np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize)


class Widths:
    """The width of any tensor of a graph; `nodes` are those of the graph, `constants` its constants by name."""

    def __init__(self, model: Any, constants: dict[str, Any]) -> None:
        self.constants, self.ours = constants, model.producer_name == OURS
        self.maker = {name: node for node in model.graph.node for name in node.output}

    def of(self, name: str) -> Width:
        """Of what a product multiplies: that of the codes behind it, else 32."""
        node = self._maker(name)
        if node is None:
            return self._stored(name)
        if node.op_type in PASSED_ON:
            return self.of(node.input[0])
        if node.op_type == "DequantizeLinear":
            return self._codes(node.input[0])
        return self._codes(name) if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") else self._rounded(name)

    def is_constant(self, name: str) -> bool:
        """Whether it is a constant, or made of one by dequantizing and moving alone."""
        node = self._maker(name)
        if node is None:
            return name in self.constants
        through = (*PASSED_ON, "Cast", "Clip", "DequantizeLinear", "QuantizeLinear")
        return node.op_type in through and self.is_constant(node.input[0])

    def _maker(self, name: str) -> Any:
        """The node that computes a tensor; None for a constant and for an input of the graph."""
        node = self.maker.get(name)
        return None if node is None or node.op_type == "Constant" else node

    def _codes(self, name: str) -> Width:
        node = self._maker(name)
        if node is None:
            return self._stored(name)
        if node.op_type in (*PASSED_ON, "Cast"):
            return self._codes(node.input[0])
        clamp = self._clamp(node)
        if clamp is not None:
            return _on_grid(clamp.low, clamp.high, clamp.signed) or self._codes(clamp.source)
        return self._quantized(node) if node.op_type == "QuantizeLinear" else Width(8)

    def _quantized(self, node: Any) -> Width:
        """Of the codes of a QuantizeLinear: by the clamp of what it takes, else its type, which clamps them itself."""
        scale = self._array(node.input[1])
        zero = self._array(node.input[2]) if len(node.input) > 2 else np.zeros(1)
        clamp = self._clamp(self._maker(node.input[0]))
        if clamp is not None and scale is not None and zero is not None:
            step, at = scale.astype(np.float64), zero.astype(np.float64)
            low, high = (np.round(end / step) + at for end in (clamp.low, clamp.high))
            on_grid = _on_grid(low, high, self._signed(node.input[2] if len(node.input) > 2 else ""))
            if on_grid is not None:
                return on_grid
        told = {attribute.name: attribute.i for attribute in node.attribute}
        if told.get("output_dtype"):
            return Width(width_of_type(told["output_dtype"]))
        kind = self.constants.get(node.input[2] if len(node.input) > 2 else "")
        return Width(8 if kind is None else width_of_type(kind.data_type))

    def _rounded(self, name: str) -> Width:
        """Of a number made of one that was rounded and clamped in floating point, and of constants; 32 of any other."""
        node = self._maker(name)
        while node is not None:
            clamp = self._clamp(node)
            if clamp is not None:
                made = self._maker(clamp.source)
                is_round = made is not None and made.op_type == "Round"
                return Width(needed(0, float(np.max(clamp.high - clamp.low)))) if is_round else FLOAT
            node = self._maker(next(self._moved(node), ""))
        return FLOAT

    def _moved(self, node: Any) -> Iterator[str]:
        """The one input of which a node makes a number alone, if it does."""
        if node.op_type == "Where" and node.input[2] in self.constants:
            yield node.input[1]
        others = [name for name in node.input if name not in self.constants]
        if node.op_type in SCALED and len(others) == 1:
            yield others[0]

    def _clamp(self, node: Any) -> Clamp | None:
        """What a node clamps, and to what; None where it clamps nothing, or not to constants."""
        if node is not None and node.op_type == "Clip":
            return self._between(*node.input) if len(node.input) == 3 else None
        if node is None or node.op_type != "Min":
            return None
        for raised, high in (node.input, reversed(node.input)) if len(node.input) == 2 else ():
            inner = self._maker(raised)
            if inner is None or inner.op_type != "Max" or len(inner.input) != 2:
                continue
            for source, low in (inner.input, reversed(inner.input)):
                found = self._between(source, low, high)
                if found is not None:
                    return found
        return None

    def _between(self, name: str, low: str, high: str) -> Clamp | None:
        ends = [self._array(end) for end in (low, high)]
        if ends[0] is None or ends[1] is None:
            return None
        return Clamp(name, ends[0].astype(np.float64), ends[1].astype(np.float64), self._signed(low))

    def _signed(self, name: str) -> bool:
        """Whether a constant is of a type with a sign."""
        return name in self.constants and not _type_name(self.constants[name].data_type).startswith("U")

    def _stored(self, name: str) -> Width:
        """Of a constant: 32 in floating point of 16 bits and more."""
        tensor = self.constants.get(name)
        bits = 32 if tensor is None else width_of_type(tensor.data_type)
        if tensor is None or bits >= 16:
            return FLOAT
        if _type_name(tensor.data_type).startswith("FLOAT"):
            return Width(bits)
        codes = self._array(name)
        if codes is None or not codes.size:
            return Width(bits, proven=False)
        low, high = float(codes.min()), float(codes.max())
        return Width(min(bits, needed(low, high))) if self.ours else of_codes(low, high, bits)

    def _array(self, name: str) -> Array | None:
        """A constant's numbers; None where it is none, or lies outside the file."""
        from onnx import numpy_helper

        tensor = self.constants.get(name)
        if tensor is None or tensor.external_data:
            return None
        found: Array = numpy_helper.to_array(tensor)
        return found if found.dtype.kind in "iuf" else found.astype(np.int64)  # ml_dtypes' 4-bit integers


def _on_grid(low: Array, high: Array, signed: bool) -> Width | None:
    """Of codes between these ends, where they are all of a width: 0..2^b-1; signed, with or without the lowest one."""
    least, most = np.unique(low), np.unique(high)
    if least.size != 1 or most.size != 1 or most[0] < least[0]:
        return None
    first, last = float(least[0]), float(most[0])
    bits = needed(first, last)
    half = 2 ** (bits - 1)
    whole = (first in (-half, 1 - half) and last == half - 1) if signed else (first, last) == (0, 2 * half - 1)
    return Width(bits) if whole else None

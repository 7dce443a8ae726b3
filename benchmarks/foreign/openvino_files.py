"""OpenVINO files (.xml with its .bin) that others wrote: run on the CPU as they are, no extension loaded.

Packed is what all constants take at their own widths. A product's operand has the width that `FakeQuantize` or the
integers behind a constant give it, whose type may be wider than the codes in it; all else is 32 bits wide. BitOPs and
OPs follow as everywhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitq.benchmarks.foreign.model import Facts, ForeignModel
from vitq.benchmarks.foreign.widths import FLOAT, Counted, Width, label_of, of_codes
from vitq.benchmarks.measure.conventions import Product, bitops, ops
from vitq.benchmarks.runtimes.registry import load
from vitq.digests import file_sha256
from vitq.errors import BadInputError
from vitq.record import Operations, Size

PRODUCTS = ("MatMul", "Convolution", "GroupConvolution")
ATTENTION = "ScaledDotProductAttention"
PASSED_ON = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Convert", "Multiply", "Subtract", "Gather", "Broadcast",
             "VariadicSplit", "Split", "StridedSlice", "Slice")  # fmt: skip
"""Operators between a grid and a product: they move numbers, or scale them."""
SCALED = ("Multiply", "Subtract", "Convert")


def open_openvino(path: Path, threads: int) -> ForeignModel:
    """The model of a file on the CPU; BadInputError, in one line, for what cannot be read or run."""
    missing = load("openvino").missing()
    if missing:
        raise BadInputError(missing)
    import openvino

    from vitq.benchmarks.runtimes.open_vino import OpenVinoModel, compiled

    files = _files(path)
    try:
        model = openvino.Core().read_model(str(path))
        sides, batch = _input(model, path)
        output = _output(model, path)
        ready = OpenVinoModel(compiled(model, threads), quantized=_has_grids(model))
    except RuntimeError as error:
        raise BadInputError(f"{path.name} cannot be read by OpenVINO: {_reason(error)}") from None
    facts = Facts(
        path=path,
        format="openvino",
        made_by=_made_by(model, openvino.__version__),
        bytes=sum(file.stat().st_size for file in files),
        sha256=hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest(),
        runtime="openvino",
        version=openvino.__version__,
        exec=ready.exec,
        batch=batch,
        sides=sides,
        operators=ready.executed(),
    )

    def run(pixels: Tensor) -> Tensor:
        ready.request.infer([pixels.numpy()], share_inputs=True)
        return torch.from_numpy(ready.request.get_output_tensor(output).data)

    return ForeignModel(run, _counted(model, facts))


def _files(path: Path) -> list[Path]:
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise BadInputError(
            f"{path.name} keeps its weights in {weights.name}, which does not lie beside it: put it there"
        )
    return [path, weights]


def _input(model: Any, path: Path) -> tuple[tuple[int | None, int | None], int | None]:
    """Height and width, and the batch that is fixed; BadInputError for other inputs than images as numbers."""
    if len(model.inputs) != 1:
        raise BadInputError(f"{path.name} takes {len(model.inputs)} inputs, where images alone are wanted")
    shape, kind = model.inputs[0].get_partial_shape(), model.inputs[0].get_element_type().get_type_name()
    if kind != "f32":
        raise BadInputError(f"{path.name} takes {kind} images, where f32 ones are wanted: export it so")
    dims = [_static(dim) for dim in shape] if shape.rank.is_static else []
    if len(dims) != 4 or dims[1] not in (3, None):
        raise BadInputError(f"{path.name} takes an input of {shape}, where images [B, 3, H, W] are wanted")
    return (dims[2], dims[3]), dims[0]


def _static(dim: Any) -> int | None:
    return None if dim.is_dynamic else int(dim.get_length())


def _output(model: Any, path: Path) -> int:
    flat = [at for at, out in enumerate(model.outputs) if len(model.outputs) == 1 or _rank(out) == 2]
    if not flat:
        raise BadInputError(f"{path.name} has {len(model.outputs)} outputs, none of which is [B, classes]")
    return flat[0]


def _rank(out: Any) -> int | None:
    rank = out.get_partial_shape().rank
    return int(rank.get_length()) if rank.is_static else None


def _made_by(model: Any, version: str) -> str:
    """NNCF or Optimum where the file names them, and the OpenVINO that converted it."""
    named = [name for name in ("nncf", "optimum") if model.has_rt_info([name])]
    converted = model.get_rt_info(["Runtime_version"]).astype(str) if model.has_rt_info(["Runtime_version"]) else ""
    by = f"openvino {converted}" if converted else f"openvino (read by {version})"
    return " with ".join(filter(None, (by, " and ".join(map(_with_version(model), named)))))


def _with_version(model: Any) -> Any:
    def described(name: str) -> str:
        for key in ("version", f"{name}_version", "optimum_intel_version"):
            if model.has_rt_info([name, key]):
                return f"{name} {model.get_rt_info([name, key]).astype(str)}"
        return name

    return described


def _has_grids(model: Any) -> bool:
    return any(op.get_type_name() == "FakeQuantize" for op in model.get_ops()) or any(
        _bits(op) < 16 for op in _constants(model)
    )


def _constants(model: Any) -> Iterator[Any]:
    return (op for op in model.get_ops() if op.get_type_name() == "Constant")


def _bits(constant: Any) -> int:
    return int(constant.get_element_type().size * 8 if constant.get_element_type().bitwidth == 0 else
               constant.get_element_type().bitwidth)  # fmt: skip


def _counted(model: Any, facts: Facts) -> Facts:
    params, stored = 0, 0
    for op in _constants(model):
        elements = math.prod(op.get_output_shape(0))
        stored += -(-elements * _bits(op) // 8)
        if _is_parameter(op):
            params += elements
    size = Size(params=params, fp32_mb=params * 4 / 1e6, packed_mb=stored / 1e6) if params else None
    try:
        found = list(_products(model, facts))
    except (RuntimeError, ValueError) as error:
        return replace(facts, size=size, unknown=(f"operations are not counted: {_reason(error)}",))
    products = [each.product for each in found]
    macs = sum(product.macs for product in products)
    operations = Operations(macs=macs, bitops=round(bitops(products)), ops=ops(products))
    return replace(facts, size=size, operations=operations, bits=label_of(found))


def _is_parameter(constant: Any) -> bool:
    """Whether a constant is a weight: no shape (64-bit integers), and no scale or zero point of one."""
    if constant.get_element_type().get_type_name() in ("i64", "i32", "u64", "boolean"):
        return False
    users = [target.get_node() for target in constant.output(0).get_target_inputs()]
    if any(user.get_type_name() == "FakeQuantize" and user.input_value(0).get_node() != constant for user in users):
        return False
    return not any(user.get_type_name() in ("Multiply", "Subtract") and _from_codes(user, constant) for user in users)


def _from_codes(user: Any, constant: Any) -> bool:
    """Whether what else a Multiply or Subtract takes are codes of a constant: then this one is their grid."""
    others = [value.get_node() for value in user.input_values() if value.get_node() != constant]
    return any(_codes_behind(other) is not None for other in others)


def _codes_behind(node: Any) -> Any:
    """The constant of integers that Convert, Subtract and Multiply make numbers of, if there is one."""
    while node.get_type_name() in SCALED:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" and _bits(node) < 16 else None


def _products(model: Any, facts: Facts) -> Iterator[Counted]:
    if None in facts.sides:
        raise ValueError("its input may have any size")
    shaped = model.clone()
    batch = facts.batch or 1
    shaped.reshape([batch, 3, *facts.sides])
    known = [op for op in shaped.get_ordered_ops() if op.get_type_name() in (*PRODUCTS, ATTENTION)]
    if not known:
        raise ValueError("it has no known product")
    for op in known:
        if op.get_type_name() == ATTENTION:
            yield from _attention(op, batch)
            continue
        left, right = op.input_value(0), op.input_value(1)
        of_left, of_right = _width(left.get_node()), _width(right.get_node())
        name, weight = op.get_friendly_name(), _weight(right.get_node())
        product = Product(name, _macs(op) // batch, of_left.bits, of_right.bits, weight, 0)
        yield Counted(product, of_left.proven and of_right.proven)


def _attention(op: Any, batch: int) -> Iterator[Counted]:
    """Both products of attention: queries with keys, and what softmax makes of them, in floating point, with values."""
    query, key, value = (op.input_value(at) for at in range(3))
    if any(each.get_partial_shape().is_dynamic for each in (query, key, value)):
        raise ValueError(f"the shapes of {op.get_friendly_name()} are not known")
    *heads, rows, width = query.get_shape()
    pairs = math.prod(heads) * rows * key.get_shape()[-2] // batch
    left, right, values = (_width(each.get_node()) for each in (query, key, value))
    name, out = op.get_friendly_name(), pairs * value.get_shape()[-1]
    yield Counted(Product(f"{name} qk", pairs * width, left.bits, right.bits, 0, 0), left.proven and right.proven)
    yield Counted(Product(f"{name} av", out, 32, values.bits, 0, 0), values.proven)


def _macs(op: Any) -> int:
    """MACs by the shapes of the operands and the output; ValueError where one is not known."""
    shapes = [op.input_value(0), op.input_value(1), op.output(0)]
    if any(each.get_partial_shape().is_dynamic for each in shapes):
        raise ValueError(f"the shapes of {op.get_friendly_name()} are not known")
    left, right, out = ([int(side) for side in each.get_shape()] for each in shapes)
    if op.get_type_name() == "Convolution":
        return math.prod(out) * math.prod(right[1:])
    if op.get_type_name() == "GroupConvolution":
        return math.prod(out) * math.prod(right[2:])
    return math.prod(out) * (left[-2] if op.get_attributes().get("transpose_a") else left[-1])


def _width(node: Any) -> Width:
    """Of what a product multiplies: that of the grid or the codes behind it, else 32."""
    while True:
        kind = node.get_type_name()
        if kind == "FakeQuantize":
            return Width(max(1, math.ceil(math.log2(node.get_attributes()["levels"]))))
        if kind == "Constant":
            return _of_constant(node)
        if kind not in PASSED_ON:
            return FLOAT
        node = node.input_value(0).get_node()


def _of_constant(constant: Any) -> Width:
    """Of codes: their type's, proven where they are of 8 bits, which can be looked at, and need them all."""
    bits = _bits(constant)
    if bits >= 16:
        return FLOAT
    if constant.get_element_type().get_type_name() not in ("i8", "u8"):
        return Width(bits, proven=False)
    return of_codes(float(constant.data.min()), float(constant.data.max()), bits)


def _weight(node: Any) -> int:
    """Elements of a weight behind an operand, 0 where it is an activation."""
    while node.get_type_name() in (*SCALED, "Reshape", "Transpose", "FakeQuantize"):
        node = node.input_value(0).get_node()
    return math.prod(node.get_output_shape(0)) if node.get_type_name() == "Constant" else 0


def _reason(error: Exception) -> str:
    """The last line that says something: OpenVINO's errors begin with places in its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '", "src/"))]
    return (told or lines or [type(error).__name__])[0][:200]

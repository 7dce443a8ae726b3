"""A model as ONNX: FP32 as it is, fake-quantized ones with the very codes and grids that they compute on."""

from __future__ import annotations

from typing import Any

import onnx
from torch import nn

from vitq.benchmarks.runtimes.onnx_export.activations import write_grid, write_log, write_product
from vitq.benchmarks.runtimes.onnx_export.grids import WeightCodes, grid_of, weight_codes
from vitq.benchmarks.runtimes.onnx_export.layers import write_layer
from vitq.benchmarks.runtimes.onnx_export.tracing import DOMAIN, Traced, trace
from vitq.benchmarks.runtimes.onnx_export.writer import Writer
from vitq.errors import UnsupportedError
from vitq.methods.repq_vit.log_quantizers import LogQuantizer
from vitq.methods.toolkit.quantizers import Quantizer

SERVED = ("vitq.methods.toolkit.", "vitq.methods.architectures.")
"""Where the modules come from whose arithmetic is known here, beside RepQ-ViT's logarithmic quantizer."""


def unsupported(model: nn.Module, exec: str) -> str | None:
    """Why a model has no QDQ form, or None as far as its modules say; `exec` is how it computes in torch."""
    if exec not in ("fp32", "fake-quant"):
        return f"a model that computes as {exec} has no QDQ form: its operators are not quantize, multiply, dequantize"
    for path, module in model.named_modules():
        home = type(module).__module__
        of_a_method = home.startswith("vitq.methods.") or isinstance(module, Quantizer)
        if of_a_method and not home.startswith(SERVED) and not isinstance(module, LogQuantizer):
            whose = home.removeprefix("vitq.methods.").partition(".")[0]
            return f"{path or 'the model'} is a {type(module).__name__} of {whose}, which has no QDQ form"
    return None


def is_quantized(model: nn.Module) -> bool:
    """Whether a model has a quantizer."""
    return any(isinstance(module, Quantizer) for module in model.modules())


def to_onnx(model: nn.Module, example: Any, *, zeros_apart: bool = False) -> onnx.ModelProto:
    """The model for inputs of the example's shape, its batch included, opset 21; UnsupportedError with the reason.

    `zeros_apart`: products of two activations are written without zero points, and what these add as sums, for
    runtimes whose kernels take none. Grids, codes and values are the same in both forms.
    """
    reason = unsupported(model, "fake-quant")
    if reason is not None:
        raise UnsupportedError(reason)
    traced = trace(model, example)
    to = Writer(traced.graph.graph)
    weights: dict[str, WeightCodes] = {}
    for node in traced.graph.graph.node:
        _write(to, node, traced, weights, zeros_apart)
    return to.finish()


def _write(to: Writer, node: onnx.NodeProto, traced: Traced, weights: dict[str, WeightCodes], apart: bool) -> None:
    """One traced node; a weight is written where it is used, transposed or not."""
    if node.domain == DOMAIN:
        _write_own(to, node, traced, weights)
    elif node.op_type == "Transpose" and node.input[0] in weights:
        weights[node.output[0]] = weights[node.input[0]]
    elif len(node.input) > 1 and node.input[1] in weights:
        write_layer(to, node, weights[node.input[1]])
    elif apart and node.op_type == "MatMul" and all(name in to.on_grid for name in node.input):
        write_product(to, node)
    else:
        if node.op_type == "Softmax":
            to.softmax[node.output[0]] = node
        to.nodes.append(node)


def _write_own(to: Writer, node: onnx.NodeProto, traced: Traced, weights: dict[str, WeightCodes]) -> None:
    """A node that stands for a weight or a quantizer."""
    told, out = {attribute.name: attribute for attribute in node.attribute}, node.output[0]
    key, to.shapes[out] = told["key"].i, list(told["shape"].ints)
    if node.op_type == "Weight":
        path, layer = traced.layers[key]
        weights[out] = weight_codes(layer, path)
        return
    path, quantizer = traced.grids[key]
    if isinstance(quantizer, LogQuantizer):
        write_log(to, node.input[0], quantizer, out)
    else:
        write_grid(to, node.input[0], grid_of(quantizer, path), out)

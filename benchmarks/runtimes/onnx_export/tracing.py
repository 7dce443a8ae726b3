"""A model traced to ONNX with a node of our own wherever a quantizer stands; `lowering` writes those out.

Torch's tracing exporter knows no grids. Each quantizer of a copy of the model is replaced by a module that puts one
node `vitq::Grid` into the graph, and each quantized weight by a node `vitq::Weight`, with the number of what it is.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.onnx_export.grids import grid_of, weight_codes
from vitq.errors import UnsupportedError
from vitq.methods.repq_vit.log_quantizers import LogQuantizer
from vitq.methods.toolkit.layers import QConv2d, QLinear
from vitq.methods.toolkit.quantizers import Quantizer

DOMAIN = "vitq"
TRACED_OPSET = 20
"""The last that torch's tracing exporter writes; what 21 added to the operators it uses are narrower types alone."""


@dataclass
class Traced:
    """The graph with nodes of ours, and what their numbers stand for: (path, quantizer) and (path, layer)."""

    graph: onnx.ModelProto
    grids: list[tuple[str, Quantizer]] = field(default_factory=list)
    layers: list[tuple[str, Any]] = field(default_factory=list)


class _Node(torch.autograd.Function):
    """The identity, as one node of the graph; `shape` in words, as `3 224 224`, for the exporter loses some shapes."""

    @staticmethod
    def forward(_: Any, x: Tensor, name: str, key: int, shape: str) -> Tensor:  # noqa: ARG004
        return x.clone()

    @staticmethod
    def symbolic(graph: Any, x: Any, name: str, key: int, shape: str) -> Any:
        sizes = [int(size) for size in shape.split()]
        return graph.op(f"{DOMAIN}::{name}", x, key_i=key, shape_i=sizes).setType(x.type())


def _node(x: Tensor, name: str, key: int) -> Tensor:
    """The same tensor, by way of a node."""
    y: Tensor = _Node.apply(x, name, key, " ".join(str(int(size)) for size in x.shape))
    return y


class _GridNode(nn.Module):
    """What stands for a quantizer; a tensor's shape is all that the rest of the model sees of it."""

    def __init__(self, key: int) -> None:
        super().__init__()
        self.key = key

    def forward(self, x: Tensor) -> Tensor:
        """The same tensor, by way of a node."""
        return _node(x, "Grid", self.key)


def trace(model: nn.Module, example: Any) -> Traced:
    """The model for inputs of the example's shape; UnsupportedError for what torch's exporter does not know."""
    found = Traced(onnx.ModelProto())
    marked = _marked(model, found)
    _check(found)
    try:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False), torch.no_grad(), _silence():
            written = str(Path(folder) / "traced.onnx")
            torch.onnx.export(
                marked, (example,), written, dynamo=False, opset_version=TRACED_OPSET, input_names=["images"],
                custom_opsets={DOMAIN: 1} if found.grids or found.layers else None,
            )  # fmt: skip
            found.graph = onnx.load(written)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnsupportedError(f"torch's exporter has no ONNX form of this model: {reason}") from error
    return found


def _check(found: Traced) -> None:
    """Refuse what has no QDQ form before the model is traced."""
    for path, layer in found.layers:
        weight_codes(layer, path)
    for path, quantizer in found.grids:
        if not isinstance(quantizer, LogQuantizer):
            grid_of(quantizer, path)


def _marked(model: nn.Module, found: Traced) -> nn.Module:
    """A copy in eval mode whose quantizers are nodes; fills `found` with what they stand for."""
    model = copy.deepcopy(model).eval()
    for path, module in list(model.named_modules()):
        if isinstance(module, (QLinear, QConv2d)) and module.weight_quantizer is not None:
            _mark_weight(path, module, found)
    for path, module in list(model.named_modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Quantizer) and not isinstance(module, Quantizer):
                setattr(module, name, _GridNode(len(found.grids)))
                found.grids.append((f"{path}.{name}".strip("."), child))
    return model


def _mark_weight(path: str, layer: Any, found: Traced) -> None:
    """Let a layer's weight come from a node."""
    key = len(found.layers)
    original = copy.copy(layer)
    original._modules = dict(layer._modules)
    found.layers.append((path, original))
    layer.weight_quantizer = None
    layer.quantized_weight = lambda: _node(layer.weight, "Weight", key)


class _silence:
    """Nothing of the exporter's warnings of shapes that it takes for constants, which they are here."""

    def __enter__(self) -> None:
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")
        self.log, self.level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
        self.log.setLevel(logging.ERROR)

    def __exit__(self, *error: Any) -> None:
        self.log.setLevel(self.level)
        self.caught.__exit__(*error)

"""Which models have an INT8 form, and why another has none; numba need not be installed to be told."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from vitq.benchmarks.runtimes.int4 import grids
from vitq.methods.toolkit.layers import QConv2d, QLinear


def refusal(model: nn.Module) -> str | None:
    """Why a model has no INT8 form, naming the tensor; None where every quantized layer has one.

    An attention product without one stays as it is, and is counted so.
    """
    layers = [(path, module) for path, module in model.named_modules() if isinstance(module, (QLinear, QConv2d))]
    if not layers:
        return "there is no quantized linear layer with uniform grids in this model"
    return next((reason for path, layer in layers for reason in _layer_reasons(path, layer)), None)


def _layer_reasons(path: str, layer: QLinear | QConv2d) -> Iterator[str]:
    if layer.input_quantizer is None:  # a layer that calibration did not reach stays in floating point
        return
    found = {
        "weight": grids.uniform_reason(layer.weight_quantizer), "input": grids.input_reason(layer.input_quantizer),
    }  # fmt: skip
    yield from (f"{path}.{operand}: {reason}" for operand, reason in found.items() if reason)
    if isinstance(layer, QConv2d) and (
        layer.stride != layer.kernel_size or any(layer.padding) or layer.groups != 1 or set(layer.dilation) != {1}
    ):
        yield f"{path}: the engine serves convolutions of windows that do not overlap"

"""Models as Relax modules, by TVM's own frontends: torch's exported programs and ONNX graphs."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from vitq.errors import UnsupportedError


def from_torch(model: nn.Module, example: Tensor) -> Any:
    """An FP32 model for inputs of the example's shape; UnsupportedError where it is not traced or not imported."""
    from tvm.relax.frontend.torch import from_exported_program

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:  # exporters and frontends fail in many ways, all of them "not this model"
            return from_exported_program(torch.export.export(model, (example,)), run_ep_decomposition=True)
        except Exception as error:
            raise UnsupportedError(f"TVM does not import it: {_first_line(error)}") from error


def from_onnx(graph: Any) -> Any:
    """An ONNX graph, its constants within; UnsupportedError where it is not imported."""
    from tvm.relax.frontend.onnx import from_onnx as imported

    try:
        return imported(graph, keep_params_in_input=False)
    except Exception as error:
        raise UnsupportedError(f"TVM does not import the graph: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]

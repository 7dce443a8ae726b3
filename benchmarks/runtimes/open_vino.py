"""The runtime `openvino`: FP32 models, mostly the strongest baseline there is, and fake-quantized ones as INT8."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled, Executed, label
from vitq.errors import UnsupportedError
from vitq.methods.toolkit.quantizers import Quantizer

WIDTHS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8", "i4": "int4", "u4": "int4"}
"""OpenVINO's names of number formats that its executed graph speaks of, and ours."""
COUNTED = {"FullyConnected": "Linear", "MatMul": "MatMul", "Convolution": "Conv", "Softmax": "Softmax", "MVN": "Norm"}
"""Operators of its executed graph that are counted, by our names; what else it runs moves or fuses numbers."""

WHOLE = "/ScaledDotProductAttention"
"""How a node that computes both products of attention is called."""


class OpenVinoModel:
    """A model that OpenVINO compiled."""

    def __init__(self, compiled: Any, quantized: bool) -> None:
        self.compiled, self.request = compiled, compiled.create_infer_request()
        self.exec = label("openvino", quantized, self.executed())

    def __call__(self, images: Tensor) -> Tensor:
        """Images as the model takes them to its first output."""
        self.request.infer([images.numpy()], share_inputs=True)
        return torch.from_numpy(self.request.get_output_tensor(0).data)

    def executed(self) -> Executed:
        """Operators by the width that the executed graph says they ran at."""
        found: dict[str, Counter[str]] = {}
        for node in self.compiled.get_runtime_model().get_ops():
            told: Mapping[str, Any] = {key: value.astype(str) for key, value in node.get_rt_info().items()}
            for kind in _kinds(told):
                found.setdefault(kind, Counter())[WIDTHS.get(told["runtimePrecision"], told["runtimePrecision"])] += 1
        return found


def _kinds(told: Mapping[str, str]) -> list[str]:
    """What a node of the executed graph computes, by our names; attention may hide its products in one `Subgraph`."""
    layer = told.get("layerType", "")
    if layer == "Subgraph":
        names = told.get("originalLayersNames", "").split(",")
        products = sum(1 if name.endswith("/MatMul") else 2 * name.endswith(WHOLE) for name in names)
        return ["MatMul"] * products
    return [COUNTED[layer]] if layer in COUNTED else []


class OpenVino:
    """OpenVINO on the CPU; models of torch, quantized ones by way of ONNX in QDQ form."""

    name = "openvino"
    exact = False

    def version(self) -> str:
        """OpenVINO's."""
        return importlib.metadata.version("openvino")

    def missing(self) -> str | None:
        """What to install, or None."""
        return None if importlib.util.find_spec("openvino") else "openvino is not installed: pip install openvino"

    def unsupported(self, model: nn.Module, exec: str) -> str | None:
        """Why the model has no QDQ form, or None."""
        if exec == "fp32":
            return None
        if not importlib.util.find_spec("onnx"):
            return "quantized models go by way of onnx, which is not installed: pip install 'vitq[runtimes]'"
        from vitq.benchmarks.runtimes.onnx_export.export import unsupported

        return unsupported(model, exec)

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:
        """The model for the example's shape; UnsupportedError on another device than the CPU."""
        if device.type != "cpu":
            raise UnsupportedError(f"openvino runs on the CPU here, not on {device.type}")
        import openvino

        quantized = any(isinstance(module, Quantizer) for module in model.modules())
        read = self._quantized if quantized else self._fp32
        return OpenVinoModel(compiled(read(openvino, model, example), threads), quantized)

    def read(self, path: Path, *, quantized: bool, threads: int) -> Compiled:
        """An exported file; `quantized`: whether it is in QDQ form."""
        import openvino

        return OpenVinoModel(compiled(openvino.Core().read_model(path.read_bytes()), threads), quantized)

    def _fp32(self, openvino: Any, model: nn.Module, example: Tensor) -> Any:
        with torch.inference_mode():
            return openvino.convert_model(model.eval(), example_input=example, input=[tuple(example.shape)])

    def _quantized(self, openvino: Any, model: nn.Module, example: Tensor) -> Any:
        from vitq.benchmarks.runtimes.onnx_export.export import to_onnx

        return openvino.Core().read_model(to_onnx(model, example, zeros_apart=True).SerializeToString())


def compiled(model: Any, threads: int) -> Any:
    """A model of OpenVINO's compiled for this CPU; what is not INT8 stays FP32."""
    import openvino

    how = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    return openvino.Core().compile_model(model, "CPU", how)


runtime = OpenVino()

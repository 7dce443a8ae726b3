"""The runtime `openvino`: FP32 models compiled for this CPU, mostly the strongest floating-point baseline."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled, Executed
from vitq.errors import UnsupportedError

WIDTHS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8", "i4": "int4", "u4": "int4"}
"""OpenVINO's names of number formats that its executed graph speaks of, and ours."""
COUNTED = {"FullyConnected": "Linear", "MatMul": "MatMul", "Convolution": "Conv", "Softmax": "Softmax", "MVN": "Norm"}
"""Operators of its executed graph that are counted, by our names; what else it runs moves or fuses numbers."""


class OpenVinoModel:
    """A model that OpenVINO compiled."""

    def __init__(self, compiled: Any) -> None:
        self.compiled, self.request = compiled, compiled.create_infer_request()
        floats = {"fp32", "fp16", "bf16"}
        widths = {width for counts in self.executed().values() for width in counts}
        self.exec = "fp32:openvino" if widths <= floats else "int8-kernel:openvino"

    def __call__(self, images: Tensor) -> Tensor:
        """Images as the model takes them to its first output."""
        self.request.infer([images.numpy()], share_inputs=True)
        return torch.from_numpy(self.request.get_output_tensor(0).data)

    def executed(self) -> Executed:
        """Operators by the width that the executed graph says they ran at."""
        found: dict[str, Counter[str]] = {}
        for node in self.compiled.get_runtime_model().get_ops():
            told: Mapping[str, Any] = {key: value.astype(str) for key, value in node.get_rt_info().items()}
            kind = COUNTED.get(told.get("layerType", ""))
            if kind:
                found.setdefault(kind, Counter())[WIDTHS.get(told["runtimePrecision"], told["runtimePrecision"])] += 1
        return found


class OpenVino:
    """OpenVINO on the CPU; FP32 models of torch."""

    name = "openvino"
    exact = False

    def version(self) -> str:
        """OpenVINO's."""
        return importlib.metadata.version("openvino")

    def missing(self) -> str | None:
        """What to install, or None."""
        return None if importlib.util.find_spec("openvino") else "openvino is not installed: pip install openvino"

    def unsupported(self, model: nn.Module, exec: str) -> str | None:  # noqa: ARG002
        """It has no form of quantized models yet."""
        return None if exec == "fp32" else f"no form of a {exec} model is exported to openvino yet"

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:
        """The model for the example's shape in FP32; UnsupportedError on another device than the CPU."""
        if device.type != "cpu":
            raise UnsupportedError(f"openvino runs on the CPU here, not on {device.type}")
        import openvino

        with torch.inference_mode():
            converted = openvino.convert_model(model.eval(), example_input=example, input=[tuple(example.shape)])
        how = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        return OpenVinoModel(openvino.Core().compile_model(converted, "CPU", how))


runtime = OpenVino()

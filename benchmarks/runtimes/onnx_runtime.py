"""The runtime `onnxruntime`: FP32 models and fake-quantized ones in QDQ form, on the CPU or a GPU that it has."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled, Executed, label
from vitq.errors import UnsupportedError

INTEGER = {
    "MatMulIntegerToFloat": "MatMul", "QLinearMatMul": "MatMul", "MatMulInteger": "MatMul", "QGemm": "Linear",
    "DynamicQuantizeMatMul": "MatMul", "QAttention": "Attention", "QLinearConv": "Conv", "ConvInteger": "Conv",
}  # fmt: skip
"""Operators of its optimized graph that multiply integers, by our names; `DequantizeLinear` before one does not."""
FLOAT = {
    "MatMul": "MatMul", "FusedMatMul": "MatMul", "Gemm": "Linear", "FusedGemm": "Linear", "Attention": "Attention",
    "MultiHeadAttention": "Attention", "Conv": "Conv", "FusedConv": "Conv", "NhwcFusedConv": "Conv",
}  # fmt: skip
"""Those that multiply floating-point numbers."""


class OnnxRuntimeModel:
    """A model in a session of onnxruntime."""

    def __init__(self, session: Any, executed: Executed, quantized: bool) -> None:
        self.session, self.counts, self.input = session, executed, session.get_inputs()[0].name
        self.exec = label("onnxruntime", quantized, executed)

    def __call__(self, images: Tensor) -> Tensor:
        """Images as the model takes them to its first output."""
        return torch.from_numpy(self.session.run(None, {self.input: images.cpu().numpy()})[0])

    def executed(self) -> Executed:
        """Products by width, counted in the graph that the session made of the model."""
        return self.counts


def counted(optimized: Any) -> Executed:
    """Products of an optimized graph by the width that they are computed in."""
    found: dict[str, Counter[str]] = {}
    for node in optimized.graph.node:
        for names, width in ((INTEGER, "int8"), (FLOAT, "fp32")):
            if node.op_type in names:
                found.setdefault(names[node.op_type], Counter())[width] += 1
    return found


def session_of(model: bytes | str, threads: int, device: torch.device) -> tuple[Any, Executed]:
    """A session of a serialized ONNX model, or of a file's path, and what it executes.

    UnsupportedError where onnxruntime refuses it.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        try:
            session = onnxruntime.InferenceSession(model, options, providers=providers(device))
        except (RuntimeError, ValueError, onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented) as error:
            raise UnsupportedError(f"onnxruntime refuses this model: {str(error).splitlines()[0]}") from error
        return session, counted(onnx.load(options.optimized_model_filepath, load_external_data=False))


def providers(device: torch.device) -> list[str]:
    """Of a GPU TensorRT's and CUDA's, as far as this onnxruntime has them; UnsupportedError where it has neither."""
    import onnxruntime

    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    wanted = ("TensorrtExecutionProvider", "CUDAExecutionProvider") if device.type == "cuda" else ()
    there = [name for name in wanted if name in onnxruntime.get_available_providers()]
    if not there:
        raise UnsupportedError(f"this onnxruntime has no provider for {device.type}: install onnxruntime-gpu")
    return [*there, "CPUExecutionProvider"]


class OnnxRuntime:
    """onnxruntime; models of torch by way of ONNX."""

    name = "onnxruntime"
    exact = False

    def version(self) -> str:
        """onnxruntime's."""
        return importlib.metadata.version("onnxruntime")

    def missing(self) -> str | None:
        """What to install, or None."""
        gone = [name for name in ("onnx", "onnxruntime") if not importlib.util.find_spec(name)]
        return f"{' and '.join(gone)} not installed: pip install 'vitq[runtimes]'" if gone else None

    def unsupported(self, model: nn.Module, exec: str) -> str | None:
        """Why the model has no QDQ form, or None."""
        from vitq.benchmarks.runtimes.onnx_export.export import unsupported

        return unsupported(model, exec)

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:
        """The model for the example's shape; a quantized one in QDQ form."""
        from vitq.benchmarks.runtimes.onnx_export.export import is_quantized, to_onnx

        written = to_onnx(model, example)
        session, executed = session_of(written.SerializeToString(), threads, device)
        return OnnxRuntimeModel(session, executed, is_quantized(model))

    def read(self, path: Path, *, quantized: bool, threads: int) -> Compiled:
        """An exported file, on the CPU; `quantized`: whether it is in QDQ form."""
        return OnnxRuntimeModel(*session_of(path.read_bytes(), threads, torch.device("cpu")), quantized)


runtime = OnnxRuntime()

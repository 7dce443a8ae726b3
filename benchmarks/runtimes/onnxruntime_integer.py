"""The runtime `onnxruntime-integer`: I-ViT's integer graph on onnxruntime, every logit that of torch, bit for bit."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitq.benchmarks.run.provenance import cpu_flags
from vitq.benchmarks.runtimes.base import Compiled, Executed
from vitq.errors import UnsupportedError

PACKAGES = ("onnx", "onnxruntime")
WIDTHS = {"float": "fp32", "uint8": "int8", "uint32": "int32", "uint64": "int64", "bool": "bool"}
"""onnxruntime's names of types in its profile, and ours; others are called alike."""
KINDS = {"MatMulInteger": "MatMul", "QuantizeLinear": "Quantize", "ReduceSum": "Reduce", "ReduceMax": "Reduce"}
"""How operators are counted; others are `Elementwise`."""
MOVES = ("Reshape", "Transpose", "Gather", "Split", "Slice", "Concat", "Squeeze", "Unsqueeze")
"""What only moves numbers is not counted."""
BY_INPUT = ("MatMulInteger", "QuantizeLinear", "GreaterOrEqual")
"""Operators whose width is that of what they read; that of others is what they give."""


class IntegerSession:
    """The graph in a session of onnxruntime, for images of one shape."""

    exec = "integer-only:onnxruntime"

    def __init__(self, model: bytes, threads: int, example: Tensor) -> None:
        self.model, self.example = model, example
        self.session = _session(model, threads)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalized images [B, 3, H, W] to logits [B, classes]."""
        return torch.from_numpy(self.session.run(None, {"images": images.numpy()})[0])

    def executed(self) -> Executed:
        """Operators by width in onnxruntime's own profile of one call."""
        with tempfile.TemporaryDirectory() as folder:
            session = _session(self.model, 1, str(Path(folder) / "profile"))
            session.run(None, {"images": self.example.numpy()})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        found: dict[str, Counter[str]] = {}
        for told in (event["args"] for event in events if event["name"].endswith("_kernel_time")):
            op = told["op_name"]
            width = next(iter(told["input_type_shape" if op in BY_INPUT else "output_type_shape"][0]))
            if op not in MOVES:
                found.setdefault(KINDS.get(op, "Elementwise"), Counter())[WIDTHS.get(width, width)] += 1
        return found


def _session(model: bytes, threads: int, profile: str | None = None) -> Any:
    import onnxruntime

    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads, how.inter_op_num_threads, how.log_severity_level = threads, 1, 3
    if profile is not None:
        how.enable_profiling, how.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(model, how, providers=["CPUExecutionProvider"])


class OnnxRuntimeInteger:
    """I-ViT's integer graph on the CPU."""

    name = "onnxruntime-integer"
    exact = True

    def version(self) -> str:
        """onnxruntime's."""
        return importlib.metadata.version("onnxruntime")

    def missing(self) -> str | None:
        """What to install, or None."""
        gone = [name for name in PACKAGES if not importlib.util.find_spec(name)]
        return f"{' and '.join(gone)} not installed: pip install {' '.join(gone)}" if gone else None

    def unsupported(self, model: nn.Module, exec: str) -> str | None:
        """Why it has no form of this model, before it is compiled."""
        from vitq.benchmarks.runtimes.integer_graph.serves import unsupported

        return unsupported(model, exec)

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:
        """The graph for the example's shape; UnsupportedError for what it has no operators of, or another device."""
        if device.type != "cpu":
            raise UnsupportedError(f"onnxruntime's integer operators run on the CPU, not on {device.type}")
        from vitq.benchmarks.runtimes.integer_graph.network import integer_graph

        weights = "int8" if {"avx512_vnni", "avx_vnni", "asimddp"} & set(cpu_flags().split()) else "uint8"
        graph = integer_graph(model, tuple(example.shape), weights)
        return IntegerSession(graph.SerializeToString(), threads, example)


runtime = OnnxRuntimeInteger()

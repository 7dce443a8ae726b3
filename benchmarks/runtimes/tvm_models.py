"""The runtimes `tvm` and `tvm-integer`: FP32 models, and I-ViT's integer graph as its authors deployed it, on TVM.

Neither is tuned: on the CPU products and rows have the plain schedule of `tvm_graphs.schedule`, on a GPU TVM's default
rules (dlight); no MetaSchedule. On the CPU integers are multiplied in int32, and a row's `operators` say so.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled, Executed

if TYPE_CHECKING:
    from vitq.benchmarks.runtimes.tvm_graphs.build import Machine


class TvmModel:
    """A model on TVM's virtual machine."""

    def __init__(self, machine: Machine, exec: str) -> None:
        self.machine, self.exec = machine, exec

    def __call__(self, images: Tensor) -> Tensor:
        """Normalized images [B, 3, H, W] to logits [B, classes]."""
        return self.machine(images)

    def executed(self) -> Executed:
        """Products by the width of what they load, and how many other kernels a run calls, in the compiled module."""
        return self.machine.executed


class Tvm:
    """FP32 models of torch, exported; on the CPU and on CUDA."""

    name = "tvm"
    exact = False

    def version(self) -> str:
        """TVM's."""
        return importlib.metadata.version("apache-tvm")

    def missing(self) -> str | None:
        """What to install, or None."""
        return _missing("tvm")

    def unsupported(self, model: nn.Module, exec: str) -> str | None:  # noqa: ARG002
        """Quantized models have a form on `tvm-integer` alone."""
        return None if exec == "fp32" else f"tvm serves FP32 models, not {exec}; tvm-integer serves I-ViT's"

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:
        """The model for the example's shape; UnsupportedError for operators that TVM does not import."""
        from vitq.benchmarks.runtimes.tvm_graphs.build import Machine
        from vitq.benchmarks.runtimes.tvm_graphs.importing import from_torch

        module = from_torch(_with_patches(model), example)
        return TvmModel(Machine(module, threads, device), "fp32:tvm")


class TvmInteger:
    """I-ViT's integer graph, on the CPU and on CUDA."""

    name = "tvm-integer"
    exact = True

    def version(self) -> str:
        """TVM's."""
        return importlib.metadata.version("apache-tvm")

    def missing(self) -> str | None:
        """What to install, or None."""
        return _missing("tvm", "onnx")

    def unsupported(self, model: nn.Module, exec: str) -> str | None:
        """Why it has no form of this model, before it is compiled."""
        from vitq.benchmarks.runtimes.integer_graph.serves import unsupported

        return unsupported(model, exec)

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:
        """The graph for the example's shape; UnsupportedError for what it has no operators of."""
        from vitq.benchmarks.runtimes.integer_graph.network import integer_graph
        from vitq.benchmarks.runtimes.tvm_graphs.build import Machine
        from vitq.benchmarks.runtimes.tvm_graphs.importing import from_onnx

        module = from_onnx(integer_graph(model, tuple(example.shape)))
        return TvmModel(Machine(module, threads, device), "integer-only:tvm")


def _missing(*names: str) -> str | None:
    packages = {"tvm": "apache-tvm", "onnx": "onnx"}
    gone = [packages[name] for name in names if not importlib.util.find_spec(name)]
    return f"{' and '.join(gone)} not installed: pip install {' '.join(gone)}" if gone else None


class Patches(nn.Module):
    """A convolution whose stride is its kernel as a product of patches, the same numbers; TVM schedules products."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.size, self.bias = (layer.kernel_size[0], layer.kernel_size[1]), layer.bias
        self.weight = nn.Parameter(layer.weight.detach().flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out, H/h, W/w]."""
        b, c, height, width = images.shape
        h, w = self.size
        x = images.reshape(b, c, height // h, h, width // w, w).permute(0, 2, 4, 1, 3, 5)
        x = nn.functional.linear(x.reshape(b, (height // h) * (width // w), c * h * w), self.weight, self.bias)
        return x.transpose(1, 2).reshape(b, -1, height // h, width // w)


def _with_patches(model: nn.Module) -> nn.Module:
    """A copy whose patch embeddings are products."""
    found = copy.deepcopy(model).cpu().eval()
    for path, layer in list(found.named_modules()):
        if isinstance(layer, nn.Conv2d) and layer.stride == layer.kernel_size and not any(layer.padding):
            found.set_submodule(path, Patches(layer))
    return found


runtime, integer_runtime = Tvm(), TvmInteger()

"""The runtime `torch-compile`: FP32 models fused by inductor, in C++ on the CPU and in Triton on a GPU."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled, Executed
from vitq.errors import UnsupportedError

COMPILERS = ("g++", "clang++", "c++", "cl")
"""Which of these is found first is enough; inductor writes C++ and has it compiled."""


class Inductor:
    """A model that inductor compiled for one shape."""

    exec = "fp32:torch-compile"

    def __init__(self, call: nn.Module) -> None:
        self.call = call

    def __call__(self, images: Tensor) -> Tensor:
        """The model's output."""
        with torch.inference_mode():
            found: Tensor = self.call(images)
        return found

    def executed(self) -> Executed:
        """Nothing is counted: inductor runs the operators that the model's modules call, at their widths."""
        return {}


class TorchCompile:
    """torch.compile with its weights frozen, so that products take them packed."""

    name = "torch-compile"
    exact = False

    def version(self) -> str:
        """torch's."""
        return str(torch.__version__)

    def missing(self) -> str | None:
        """A C++ compiler, which inductor needs on the CPU, or None."""
        asked = os.environ.get("CXX")
        if any(shutil.which(name) for name in ([asked] if asked else COMPILERS)):
            return None
        return "torch.compile needs a C++ compiler on the CPU and none is found: install g++ or clang++, or set CXX"

    def unsupported(self, model: nn.Module, exec: str) -> str | None:  # noqa: ARG002
        """Why it has no form of this model: quantized models have kernels of their own."""
        return None if exec == "fp32" else f"torch.compile is measured on FP32 models, not on {exec}"

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:
        """The model for the example's shape, compiled and called once; UnsupportedError where it cannot be traced."""
        model, example = model.to(device).eval(), example.to(device)
        with torch.no_grad(), _threads(threads):
            try:  # exported first: a graph of one shape has guards of its own, and no limit of recompilations
                graph = torch.export.export(model, (example,)).module()
                call = torch.compile(graph, fullgraph=True, dynamic=False, options={"freezing": True})
                call(example)
            except Exception as error:  # a tracer and a code generator fail in many ways, all of them "not this model"
                raise UnsupportedError(f"torch.compile: {_first_line(error)}") from error
        return Inductor(call)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let inductor write code for as many threads; it takes torch's number at compilation."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]


runtime = TorchCompile()

"""A runtime: FP32 models traced and frozen by TorchScript."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled, Executed
from vitq.errors import UnsupportedError


class Script:
    """A traced model."""

    exec = "fp32:torchscript"

    def __init__(self, graph: torch.jit.ScriptModule) -> None:
        self.graph = graph

    def __call__(self, images: Tensor) -> Tensor:
        """The model's output."""
        with torch.inference_mode():
            found: Tensor = self.graph(images)
        return found

    def executed(self) -> Executed:
        """Nothing is counted: it runs torch's own operators."""
        return {}


class TorchScript:
    """TorchScript; `vitq run` holds its output to torch's before it is timed."""

    name = "torchscript"
    exact = False

    def version(self) -> str:
        """torch's."""
        return str(torch.__version__)

    def missing(self) -> None:
        """It comes with torch."""

    def unsupported(self, model: nn.Module, exec: str) -> str | None:  # noqa: ARG002
        """Why it has no form of this model."""
        return None if exec == "fp32" else f"torchscript runs FP32 models here, not {exec}"

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:  # noqa: ARG002
        """The model for the example's shape; UnsupportedError where it cannot be traced."""
        try:
            traced = torch.jit.trace(model.to(device).eval(), example.to(device), check_trace=False)  # type: ignore[no-untyped-call]
            return Script(torch.jit.freeze(traced))
        except Exception as error:  # a tracer fails in many ways, all of them "not this model"
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise UnsupportedError(f"torchscript cannot trace it: {said[0]}") from error


RUNTIME = TorchScript()

"""Where kernels run: a CUDA device, or the CPU in Triton's interpreter; and a call captured in a CUDA graph."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.cuda import CUDAGraph, Stream, current_stream, graph, stream

from vitq.errors import UnsupportedError

Call = Callable[[Tensor], Any]
WARMUP = 2
"""Calls before one is captured: kernels are compiled, and libraries take their workspaces."""


def interpreting() -> bool:
    """Whether Triton runs kernels in its interpreter, which it asks when a module of kernels is imported."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes")


def version() -> str:
    """Triton's."""
    return importlib.metadata.version("triton")


def missing() -> str | None:
    """What Triton's runtimes lack on this machine, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install triton"
    if not interpreting() and torch.cuda.device_count() == 0:
        return "there is no CUDA device (Triton's interpreter, TRITON_INTERPRET=1, runs the kernels on the CPU, slowly)"
    return None


def check(device: torch.device) -> None:
    """UnsupportedError for a device that the kernels do not run on."""
    wanted = "cpu" if interpreting() else "cuda"
    if device.type != wanted:
        where = "on the CPU in Triton's interpreter" if interpreting() else "on a CUDA device"
        raise UnsupportedError(f"the engine runs {where}, not on {device.type}")


def on(device: torch.device) -> AbstractContextManager[Any]:
    """The device that kernels are launched on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def aside(device: torch.device) -> Stream:
    """A stream of its own, which captures need."""
    return Stream(device)  # type: ignore[no-untyped-call]


class Captured:
    """A function of one tensor of a fixed shape, captured in a CUDA graph; on the CPU the function itself.

    What it gives is the caller's own: a later call does not change it.
    """

    def __init__(self, call: Call, example: Tensor, device: torch.device) -> None:
        self.call, self.device, self.shape = call, device, tuple(example.shape)
        self.graph: CUDAGraph | None = None
        if device.type == "cuda":
            with torch.inference_mode(), on(device):
                self._capture(example)

    def _capture(self, example: Tensor) -> None:
        self.input = example.to(self.device, torch.float32, copy=True).contiguous()
        side, now = aside(self.device), current_stream(self.device)
        side.wait_stream(now)
        with stream(side):
            for _ in range(WARMUP):
                self.call(self.input)
        now.wait_stream(side)
        self.graph = CUDAGraph()
        with graph(self.graph):
            self.output = self.call(self.input)

    def __call__(self, images: Tensor) -> Any:
        """The function's output; ValueError for another shape than the example's."""
        if tuple(images.shape) != self.shape:
            raise ValueError(f"compiled for images of {list(self.shape)}, not {list(images.shape)}")
        with torch.inference_mode(), on(self.device):
            if self.graph is None:
                return _own(self.call(images.to(self.device, torch.float32).contiguous()))
            self.input.copy_(images)
            self.graph.replay()
            return _own(self.output)


def _own(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.clone()
    return type(output)(_own(part) for part in output)

"""What a runtime offers: whether it is here, whether it serves a model, and the model compiled for one batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

Executed = Mapping[str, Mapping[str, int]]
"""How many operators of a compiled model run at which width: {"MatMul": {"int8": 48, "fp32": 2}, ...}.

Counted in the runtime's own executed graph or profile where it gives one, never in the graph that was handed to it: a
runtime may compute in floating point what it was given as integers.
"""


class Compiled(Protocol):
    """A model compiled for one batch size, threads and device."""

    exec: str
    """How it really computes, as a latency row names it: `fp32:<runtime>`, `bf16:<runtime>`, `int8-kernel:<runtime>`,
    `integer-only:<runtime>`, `xnor:<runtime>`. One that turned out to compute in floating point says `fp32:`."""

    def __call__(self, images: Tensor) -> Tensor:
        """Images as the FP32 model takes them [B, 3, H, W] -> logits or features as float32."""

    def executed(self) -> Executed:
        """Operators by width, as `Executed` describes."""


class Runtime(Protocol):
    """One runtime; a module of `benchmarks.runtimes` holds an object of this shape."""

    name: str
    """As a suite and `vitq list runtimes` name it: torch, torch-compile, onnxruntime, openvino, tvm, numba. What
    computes a model in several ways is a runtime for each: torch-bf16, onnxruntime-integer."""
    exact: bool
    """Whether its numbers must equal those of the model it was given bit for bit (integer-only, xnor)."""

    def version(self) -> str:
        """Version of what computes, which a latency row's identity holds."""

    def missing(self) -> str | None:
        """Why it cannot run on this machine (the extra to install, an instruction set), or None."""

    def unsupported(self, model: nn.Module, exec: str) -> str | None:
        """Why it has no form of this model, or None; `exec` is how the model computes in torch (`fp32`, `fake-quant`,
        `integer-only:torch`, `xnor:torch`), as its saved file says."""

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:
        """The model, in eval mode, for inputs of the example's shape. UnsupportedError for a part it has no form of."""

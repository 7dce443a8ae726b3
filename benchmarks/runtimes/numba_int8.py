"""The runtime `numba-int8`: uniformly quantized models on INT8 products, 4-bit weights stored two a byte."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled
from vitq.errors import UnsupportedError


class NumbaInt8:
    """Fake-quantized models whose linear layers, and attention where its grids allow, compute in INT8 on the CPU.

    Norms, softmax, GELU and sums stay in floating point, so that an output differs from fake quantization by the
    rounding of sums, and by what that moves over a boundary of a later grid.
    """

    name = "numba-int8"
    exact = False

    def version(self) -> str:
        """numba's."""
        return importlib.metadata.version("numba")

    def missing(self) -> str | None:
        """What to install, or None."""
        return None if importlib.util.find_spec("numba") else "numba is not installed: pip install numba"

    def unsupported(self, model: nn.Module, exec: str) -> str | None:
        """Why it has no form of this model, before it is compiled."""
        if exec != "fake-quant":
            return f"the engine runs fake-quantized models, not {exec}"
        from vitq.benchmarks.runtimes.int4.refusals import refusal

        return refusal(model)

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:  # noqa: ARG002
        """The model with its products on kernels; UnsupportedError where a grid has no INT8 form, or elsewhere."""
        if device.type != "cpu":
            raise UnsupportedError(f"the engine runs on the CPU, not on {device.type}")
        from vitq.benchmarks.runtimes.int4.engine import Engine

        return Engine(model, threads)


runtime = NumbaInt8()

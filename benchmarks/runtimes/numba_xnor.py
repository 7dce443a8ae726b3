"""The runtime `numba-xnor`: BinaryViT by xor and popcount, every number that of the packed form in torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled
from vitq.errors import UnsupportedError


class NumbaXnor:
    """Packed binary models on the CPU."""

    name = "numba-xnor"
    exact = True

    def version(self) -> str:
        """numba's."""
        return importlib.metadata.version("numba")

    def missing(self) -> str | None:
        """What to install, or None."""
        return None if importlib.util.find_spec("numba") else "numba is not installed: pip install numba"

    def unsupported(self, model: nn.Module, exec: str) -> str | None:  # noqa: ARG002
        """Why it has no form of this model, before it is compiled."""
        return None if exec.startswith("xnor:") else f"the engine runs binary models, not {exec}"

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:
        """The model with its binary products on kernels; UnsupportedError where it has none, or on another device."""
        if device.type != "cpu":
            raise UnsupportedError(f"the engine runs on the CPU, not on {device.type}")
        from vitq.benchmarks.runtimes.xnor.engine import Engine

        return Engine(model, example, threads)


runtime = NumbaXnor()

"""The runtime `numba`: I-ViT in integers alone, every logit that of the integer form in torch, bit for bit."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled
from vitq.errors import UnsupportedError
from vitq.methods.i_vit.network import Network


class NumbaInteger:
    """I-ViT's integer networks on fused kernels, on the CPU."""

    name = "numba"
    exact = True

    def version(self) -> str:
        """numba's, and the instruction sets that the kernels are compiled with, which decide how fast they are."""
        from vitq.benchmarks.runtimes.i_vit.vector import INSTRUCTIONS

        return f"{importlib.metadata.version('numba')} ({INSTRUCTIONS})"

    def missing(self) -> str | None:
        """What to install, or None."""
        return None if importlib.util.find_spec("numba") else "numba is not installed: pip install numba"

    def unsupported(self, model: nn.Module, exec: str) -> str | None:
        """Why it has no form of this model, before it is compiled."""
        if exec != "integer-only:torch":
            return f"the engine runs integer-only:torch models, not {exec}"
        if not isinstance(model, Network):
            return "the engine runs an I-ViT network that is the whole model"
        if not model.classifies or model.levels:
            return "the engine serves classifiers, not backbones"
        return None

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:
        """The engine for the example's shape; UnsupportedError for what it has no kernel of, or another device."""
        if device.type != "cpu":
            raise UnsupportedError(f"the engine runs on the CPU, not on {device.type}")
        reason = self.unsupported(model, "integer-only:torch")
        if reason is not None or not isinstance(model, Network):
            raise UnsupportedError(reason or "the engine runs an I-ViT network")
        from vitq.benchmarks.runtimes.i_vit.engine import Engine

        return Engine(model, example, threads)


runtime = NumbaInteger()

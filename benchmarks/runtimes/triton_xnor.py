"""The runtime `triton-xnor`: BinaryViT by xor and popcount on a GPU, every product that of the packed form in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled
from vitq.benchmarks.runtimes.gpu import device as place


class TritonXnor:
    """Packed binary models on a CUDA device or, to check the kernels, in Triton's interpreter.

    Exact against the packed model on the same device: products are integers, and every operator in floating point is
    torch's own there. On another device those round otherwise, and a sign may turn.
    """

    name = "triton-xnor"
    exact = True

    def version(self) -> str:
        """Triton's."""
        return place.version()

    def missing(self) -> str | None:
        """What is lacking: Triton or a CUDA device; or None."""
        return place.missing()

    def unsupported(self, model: nn.Module, exec: str) -> str | None:  # noqa: ARG002
        """Why it has no form of this model, before it is compiled."""
        return None if exec.startswith("xnor:") else f"the engine runs binary models, not {exec}"

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:  # noqa: ARG002
        """The model with its binary products on kernels; UnsupportedError where it has none, or on another device."""
        place.check(device)
        from vitq.benchmarks.runtimes.gpu.xnor_engine import Engine

        return Engine(model, example, device)


runtime = TritonXnor()

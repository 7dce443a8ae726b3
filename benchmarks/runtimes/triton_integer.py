"""The runtime `triton`: I-ViT in integers alone on a GPU, every logit that of the integer form in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled
from vitq.benchmarks.runtimes.gpu import device as place
from vitq.errors import UnsupportedError
from vitq.methods.i_vit.network import Network


class TritonInteger:
    """I-ViT's integer networks on fused kernels, on a CUDA device or, to check them, in Triton's interpreter."""

    name = "triton"
    exact = True

    def version(self) -> str:
        """Triton's."""
        return place.version()

    def missing(self) -> str | None:
        """What is lacking: Triton or a CUDA device; or None."""
        return place.missing()

    def unsupported(self, model: nn.Module, exec: str) -> str | None:
        """Why it has no form of this model, before it is compiled."""
        if exec != "integer-only:torch":
            return f"the engine runs integer-only:torch models, not {exec}"
        if not isinstance(model, Network):
            return "the engine runs an I-ViT network that is the whole model"
        if model.layout != "tokens" or not model.classifies or model.levels:
            return "the engine serves classifiers of tokens, ViT and DeiT, not maps (Swin) or backbones"
        return None

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:  # noqa: ARG002
        """The engine for the example's shape; UnsupportedError for what it has no kernel of, or another device."""
        reason = self.unsupported(model, "integer-only:torch")
        if reason is not None or not isinstance(model, Network):
            raise UnsupportedError(reason or "the engine runs an I-ViT network")
        place.check(device)
        from vitq.benchmarks.runtimes.gpu.engine import Engine

        return Engine(model, example, device)


runtime = TritonInteger()

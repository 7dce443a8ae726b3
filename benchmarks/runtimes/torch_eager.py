"""The runtime `torch`: a model as it stands, eager, which every speed is shown beside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled, Executed


class Eager:
    """A model called as it is; `exec` as its file says."""

    def __init__(self, model: nn.Module, exec: str) -> None:
        self.model, self.exec = model, exec

    def __call__(self, images: Tensor) -> Tensor:
        """The model's own output."""
        with torch.inference_mode():
            found: Tensor = self.model(images)
        return found

    def executed(self) -> Executed:
        """Nothing is counted: eager torch runs what the model's modules call."""
        return {}


class TorchEager:
    """Eager torch."""

    name = "torch"
    exact = False

    def version(self) -> str:
        """torch's."""
        return str(torch.__version__)

    def missing(self) -> None:
        """It is always there."""

    def unsupported(self, model: nn.Module, exec: str) -> None:
        """It runs every model."""

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:  # noqa: ARG002
        """The model itself; threads are those that torch has when it is called."""
        return Eager(model.to(device).eval(), "fp32")


runtime = TorchEager()

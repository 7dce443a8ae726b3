"""The runtime `torch-bf16`: FP32 models with every weight and activation cast to bfloat16, eager, on CPU and GPU."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Compiled, Executed
from vitq.errors import UnsupportedError


class HalfWidth:
    """A model in bfloat16; images in and logits out are float32."""

    exec = "bf16:torch"

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = copy.deepcopy(model).to(device, torch.bfloat16).eval()

    def __call__(self, images: Tensor) -> Tensor:
        """The model's output, rounded to bfloat16 on its way."""
        with torch.inference_mode():
            found: Tensor = self.model(images.to(torch.bfloat16))
        return found.float()

    def executed(self) -> Executed:
        """Nothing is counted: eager torch runs what the model's modules call."""
        return {}


class TorchBf16:
    """Eager torch in bfloat16."""

    name = "torch-bf16"
    exact = False

    def version(self) -> str:
        """torch's."""
        return str(torch.__version__)

    def missing(self) -> None:
        """It is always there; a CPU without bfloat16 instructions emulates them, and its row shows what that costs."""

    def unsupported(self, model: nn.Module, exec: str) -> str | None:  # noqa: ARG002
        """Quantized models have codes and scales that bfloat16 cannot hold."""
        return None if exec == "fp32" else f"bfloat16 is a form of FP32 models, not of {exec}"

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiled:  # noqa: ARG002
        """A copy in bfloat16; threads are those that torch has when it is called.

        UnsupportedError for a GPU without bfloat16.
        """
        if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
            raise UnsupportedError(f"{torch.cuda.get_device_name(device)} has no bfloat16")
        return HalfWidth(model, device)


runtime = TorchBf16()

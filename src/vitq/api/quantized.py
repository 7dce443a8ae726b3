"""A quantized model as the Python interface gives it: it runs, says what it weighs and costs, is saved and exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vitq.api.tables import Table

if TYPE_CHECKING:
    from vitq.details import Details
    from vitq.record import Operations


@dataclass(frozen=True)
class Exported:
    """What `QuantizedModel.export` wrote, and how near it is to the model."""

    path: Path
    runtime: str
    exec: str
    difference: float
    agreement: float
    operators: dict[str, dict[str, int]]
    bytes: int
    shape: tuple[int, ...]
    nearness: str


class QuantizedModel(nn.Module):
    """A quantized model: call it as the model it was made of.

    Attributes:
        model: the module that computes.
        method, bits, scope, options, seed: what it was made by.
        exec: how it computes: `fp32`, `fake-quant`, `integer-only:torch`, `xnor:torch`.
        details: what the method says of its work; None of a model that was loaded.
    """

    model: nn.Module
    method: str
    bits: str
    scope: str
    options: dict[str, Any]
    seed: int
    exec: str
    details: Details | None

    @property
    def size(self) -> Any:
        """Size: `params`, `packed_mb`, `fp32_mb` (10^6 bytes) and `ratio`, how many times smaller it ships."""
        raise NotImplementedError

    @property
    def operations(self) -> Operations:
        """Operations of one image: `macs`, `bitops`, `ops`."""
        raise NotImplementedError

    def layers(self) -> Table:
        """A row a layer: kind, MACs, widths of both operands, parameters, packed bytes."""
        raise NotImplementedError

    def save(self, path: str | Path, *, architecture: Any = None) -> Path:
        """Write the model to a file that `vitq.load` reads; the format of a run's own models."""
        raise NotImplementedError

    def export(self, path: str | Path, runtime: str = "onnxruntime", *, batch: int = 1, threads: int = 1) -> Exported:
        """Write the model as ONNX for a runtime, load it there and hold it to this one; as `vitq export` does."""
        raise NotImplementedError


def load(
    path: str | Path, device: str | torch.device = "cpu", *, architecture: nn.Module | None = None
) -> QuantizedModel:
    """The quantized model that a file holds, in eval mode, on `device`; nothing of the file is executed."""
    raise NotImplementedError

"""The floating-point model itself: the row that every other method is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from vitq.methods.base import Job, Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards


@dataclass(frozen=True)
class Options:
    """No option."""


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Anything but FP32, as the card says."""
    return all_cards()["fp32"].supports.refuses(bits)


def prepare(model: nn.Module, bits: Bits, options: Options) -> nn.Module:  # noqa: ARG001
    """The model, unchanged."""
    return model


def restore(model: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    """The model, unchanged."""
    return model


def quantize(job: Job, options: Options) -> Quantized:  # noqa: ARG001
    """The model, unchanged."""
    return Quantized(job.model, exec="fp32")

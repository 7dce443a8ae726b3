"""The floating-point model itself: the row that every other method is compared with."""

from __future__ import annotations

from typing import Any

from torch import nn

from vitq.details.fp32 import Details
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.fp32.options import Options
from vitq.subject import Subject


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Anything but FP32, as the card says."""
    return all_cards()["fp32"].supports.refuses(bits)


def prepare(part: nn.Module, bits: Bits, options: Options) -> nn.Module:  # noqa: ARG001
    """The part, unchanged."""
    return part


def restore(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    """The part, unchanged."""
    return part


def quantize(subject: Subject, bits: Bits, options: Options) -> Quantized:  # noqa: ARG001
    """The model, unchanged."""
    return Quantized(subject.model, Details(), exec="fp32")

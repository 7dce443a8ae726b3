"""What a method offers and what it gives back.

A method knows no task and no data set: it gets a subject (`vitq.subject`), and asks its model for roles
(`methods.architectures`), never for a library's class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from vitq.details import Details
from vitq.methods.bits import Bits
from vitq.subject import Subject


@dataclass
class Quantized:
    """A quantized model, what the record says of the work (typed by the method), and artifact files by name.

    `model` is the whole model, with the quantized part in its place. `exec` is how it computes, as a latency row names
    it: `fp32`, `fake-quant`, `integer-only:<runtime>`, `xnor:<runtime>`. `facts` is what `Method.restore` needs beside
    bits and options, JSON-able (mixed widths).
    """

    model: nn.Module
    details: Details = field(default_factory=Details)
    files: dict[str, Path] = field(default_factory=dict)
    exec: str = "fake-quant"
    facts: dict[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """What a method's module offers; `part` is the module that a scope names, the whole model or its backbone."""

    Options: type
    """A small dataclass: every option of the method with its default."""

    def unsupported(self, bits: Bits, options: Any) -> str | None:
        """Why these widths or options cannot be had, or None; asked before a cell runs."""

    def prepare(self, part: nn.Module, bits: Bits, options: Any) -> nn.Module:
        """Replace layers by quantized ones without any data, in place where possible; accounting reads the result.

        Works on the meta device. Raises UnsupportedError for a module it cannot serve. Methods whose widths depend on
        data (mixed precision) give what is known without it.
        """

    def quantize(self, subject: Subject, bits: Bits, options: Any) -> Quantized:
        """Do the whole job on `subject.part`: prepare, calibrate, train where the method trains."""

    def restore(self, part: nn.Module, bits: Bits, options: Any, facts: dict[str, Any]) -> nn.Module:
        """The finished part's modules on an architecture with any weights, to be filled from a saved model."""

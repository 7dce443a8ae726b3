"""What a method is given and what it gives back.

A method knows no task and no data set: it gets a model, calibration batches as the task makes them, a way to run a
forward pass, and losses that the task supplies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vitq.methods.bits import Bits

Batch = Any
"""A batch as the task makes it; only the task's own functions look inside."""
Output = Any
"""What the task's forward pass returns; only the task's own functions look inside."""


class Progress(Protocol):
    """Called as `progress(phase, done, total)`; `total` 0 means unknown."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note of the progress."""


def silent(phase: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class InputSpec:
    """Shape [C, H, W] of one input and its normalization, (pixel in 0..1 - mean) / std per channel."""

    size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class UnsupportedError(Exception):
    """The method cannot do what the cell asks; the message is the reason a record shows."""


class MethodInputError(ValueError):
    """The model or an option does not fit the method; the message says what to change."""


def _nothing() -> Iterator[Batch]:
    return iter(())


@dataclass
class Job:
    """One quantization to be done.

    Attributes:
        model: the FP model in eval mode on `device`; the method's own copy, to be changed at will.
        bits: the widths asked for.
        calibration: a fresh iterator over the calibration batches at each call, always the same batches.
        look: the same batches for pictures alone: what is read here may decide no number.
        forward: runs a model on a batch; gradients flow where they are enabled.
        loss: the task's supervised loss, a scalar averaged over the batch.
        distance: mean absolute difference of two outputs, a scalar; serves dense outputs too.
        distill: the task's distillation loss of (student output, teacher output), a scalar.
        synthesize: images [B, C, H, W] in normalized space to a batch with random labels drawn from the generator.
        input: shape and normalization of one input.
        training: batches of one epoch, given its number; labels included, augmented and shuffled by seed and epoch;
            None where the task has no training data.
        validate: the task's metrics of a model on its validation data, for curves of a training run; None if absent.
        seed: seeds every random choice of the method.
        device: where to compute.
        artifacts: an existing folder for files that a record keeps (images, curves, checkpoints).
        progress: to be told about phases.
    """

    model: nn.Module
    bits: Bits
    calibration: Callable[[], Iterator[Batch]]
    forward: Callable[[nn.Module, Batch], Output]
    loss: Callable[[Output, Batch], Tensor]
    distance: Callable[[Output, Output], Tensor]
    distill: Callable[[Output, Output], Tensor]
    synthesize: Callable[[Tensor, torch.Generator], Batch]
    input: InputSpec
    look: Callable[[], Iterator[Batch]] = _nothing
    training: Callable[[int], Iterator[Batch]] | None = None
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    artifacts: Path = Path()
    progress: Progress = silent


@dataclass
class Quantized:
    """A quantized model, JSON-able diagnostics for the record, and artifact files by name.

    `exec` is how the model computes, as a latency row names it: `fp32`, `fake-quant`, `integer-only:<runtime>`,
    `xnor:<runtime>`. `facts` is what `Method.restore` needs beside bits and options, JSON-able (mixed widths).
    """

    model: nn.Module
    details: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    exec: str = "fake-quant"
    facts: dict[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """What a method module offers; `vitq.methods.registry.load` returns one."""

    Options: type
    """A small dataclass: every option of the method with its default."""

    def unsupported(self, bits: Bits, options: Any) -> str | None:
        """Why these widths or options cannot be had, or None."""

    def prepare(self, model: nn.Module, bits: Bits, options: Any) -> nn.Module:
        """Replace layers by quantized ones without any data, in place where possible; accounting reads the result.

        Works on the meta device. Raises UnsupportedError for a model it cannot serve. Methods whose widths depend on
        data (mixed precision) give what is known without it.
        """

    def quantize(self, job: Job, options: Any) -> Quantized:
        """Do the whole job: prepare, calibrate, train where the method trains."""

    def restore(self, model: nn.Module, bits: Bits, options: Any, facts: dict[str, Any]) -> nn.Module:
        """The finished model's modules on an architecture with any weights, to be filled from a saved model."""

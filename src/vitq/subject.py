"""What a task hands a method: a model with data and functions that alone look inside a batch or an output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vitq.errors import BadInputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Batch = Any
"""A batch as the task makes it; only the task's own functions look inside."""
Output = Any
"""What the task's forward pass returns; only the task's own functions look inside."""
WHOLE = "model"
"""The scope that is the whole of a model; any other is the path of a module in it."""


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


def _nothing() -> Iterator[Batch]:
    return iter(())


def _cpu() -> torch.device:
    import torch

    return torch.device("cpu")


@dataclass
class Subject:
    """One model to be quantized, and everything a method may ask of its task.

    Attributes:
        model: the FP model in eval mode on `device`; the method's own copy, to be changed at will.
        forward: runs a model on a batch; gradients flow where they are enabled.
        calibration: a fresh iterator over the calibration batches at each call, always the same batches.
        example: one batch, for counting, tracing and timing; its content decides no number.
        loss: the task's supervised loss of (output, batch), a scalar averaged over the batch.
        distance: mean absolute difference of two outputs, a scalar; serves dense outputs too.
        distill: the task's distillation loss of (student output, teacher output), a scalar; serves dense outputs too.
        digest: sha256 of an output, of its bytes: two outputs that agree in it agree bit for bit.
        synthesize: images [B, C, H, W] in normalized space to a batch, with random labels drawn from the generator.
        draws_labels: whether `synthesize` draws labels; a task whose labels are no draw of a class each does not.
        input: shape and normalization of one input.
        scope: what of the model is quantized: `model` for the whole, or the path of a module in it.
        look: the calibration batches for pictures alone: what is read here may decide no number.
        training: batches of one epoch, given its number; labels included, augmented and shuffled by seed and epoch;
            None where the task has no training data.
        validate: the task's metrics of a model on its validation data, for curves of a training run; None if absent.
        seed: seeds every random choice of the method.
        device: where to compute.
        artifacts: an existing folder for files that a record keeps (images, curves, checkpoints).
        progress: to be told about phases.
    """

    model: nn.Module
    forward: Callable[[nn.Module, Batch], Output]
    calibration: Callable[[], Iterator[Batch]]
    example: Callable[[], Batch]
    loss: Callable[[Output, Batch], Tensor]
    distance: Callable[[Output, Output], Tensor]
    distill: Callable[[Output, Output], Tensor]
    digest: Callable[[Output], str]
    synthesize: Callable[[Tensor, torch.Generator], Batch]
    input: InputSpec
    scope: str = WHOLE
    draws_labels: bool = True
    look: Callable[[], Iterator[Batch]] = _nothing
    training: Callable[[int], Iterator[Batch]] | None = None
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    seed: int = 0
    device: torch.device = field(default_factory=_cpu)
    artifacts: Path = Path()
    progress: Progress = silent

    @property
    def part(self) -> nn.Module:
        """The module that is quantized; BadInputError where the model has none of that path."""
        return part_of(self.model, self.scope)

    def put(self, part: nn.Module) -> nn.Module:
        """Set a module in the place of `part`, which may be the same one; returns the whole model, now `model`."""
        self.model = put_part(self.model, self.scope, part)
        return self.model


def part_of(model: nn.Module, scope: str) -> nn.Module:
    """The module of a model that a scope names; BadInputError where there is none, in one line with the paths there."""
    if scope == WHOLE:
        return model
    found: nn.Module | None = dict(model.named_modules(remove_duplicate=False)).get(scope) if scope else None
    if found is None:
        known = ", ".join([WHOLE, *(name for name, _ in model.named_children())])
        raise BadInputError(f"{type(model).__name__} has no module {scope!r} to quantize: give a scope of {known}")
    return found


def put_part(model: nn.Module, scope: str, part: nn.Module) -> nn.Module:
    """The model with `part` in the place of its scope, in place; `part` itself where the scope is the whole.

    BadInputError where the model has no module of that path.
    """
    if scope == WHOLE:
        return part
    part_of(model, scope)
    parent, _, leaf = scope.rpartition(".")
    setattr(model.get_submodule(parent), leaf, part)
    return model

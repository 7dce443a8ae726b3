"""Subjects of small models for tests of methods, whose losses are never asked for unless a test gives them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vitq.subject import InputSpec, Subject

NO_ROLES = "roles attention .* are missing"
"""What a model without any block that a family knows is told, as a pattern."""


def run(model: nn.Module, batch: Any) -> Any:
    """The forward pass where a batch is what the model takes."""
    return model(batch)


def digest(output: Tensor) -> str:
    """sha256 of a tensor's bytes."""
    return hashlib.sha256(output.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def never(*_: Any) -> Any:
    """A function of the subject that the method under test has no use for."""
    raise AssertionError("the method asked for what it has no use for")


def subject_of(model: nn.Module, batches: Sequence[Any], side: int = 32, **changes: Any) -> Subject:
    """A subject with these calibration batches and images of [3, side, side]; `changes` are fields of Subject."""
    fields: dict[str, Any] = {
        "model": model, "forward": run, "calibration": lambda: iter(batches), "example": lambda: batches[0],
        "loss": never, "distance": never, "distill": never, "digest": digest, "synthesize": never,
        "input": InputSpec((3, side, side), (0.5,) * 3, (0.5,) * 3),
    }  # fmt: skip
    return Subject(**{**fields, **changes})

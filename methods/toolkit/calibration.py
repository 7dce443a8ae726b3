"""Passes over a subject's calibration batches, the same for every method that makes them."""

from __future__ import annotations

from vitq.errors import MethodInputError
from vitq.subject import Batch, Subject


def run_calibration(subject: Subject) -> int:
    """Run the subject's whole model on every calibration batch, telling of each; returns their number.

    Raises MethodInputError where there is none. Gradients are the caller's matter.
    """
    batches = 0
    for batch in subject.calibration():
        subject.forward(subject.model, batch)
        batches += 1
        subject.progress("calibrate", batches, 0)
    if not batches:
        raise MethodInputError(_NONE)
    return batches


def first_batch(subject: Subject) -> Batch:
    """The first calibration batch; MethodInputError where there is none."""
    for batch in subject.calibration():
        return batch
    raise MethodInputError(_NONE)


def saw_nothing(path: str) -> MethodInputError:
    """The error for a quantizer, by its path, that calibration showed no tensor."""
    return MethodInputError(f"{path} saw no tensor in calibration; the forward pass leaves it out")


_NONE = "calibration needs at least one calibration batch; there was none"

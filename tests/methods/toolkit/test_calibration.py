"""Calibration runs the whole model on every batch, tells of each, and refuses to run on none."""

from __future__ import annotations

import pytest
import torch
from subjects import subject_of
from torch import nn

from vitq.errors import MethodInputError
from vitq.methods.toolkit.calibration import first_batch, run_calibration, saw_nothing


def test_every_batch_is_run_and_told_through_the_whole_model() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    shapes, told = [], []
    model[1].register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    subject = subject_of(
        model, [torch.zeros(n, 2) for n in (4, 1)], scope="0", progress=lambda *words: told.append(words)
    )
    assert run_calibration(subject) == 2
    assert shapes == [(4, 1), (1, 1)]
    assert told == [("calibrate", 1, 0), ("calibrate", 2, 0)]


def test_the_first_batch_is_taken_anew_each_time_and_no_other_is_read() -> None:
    def batches() -> object:
        yield "first"
        raise AssertionError("a second batch was read")

    subject = subject_of(nn.Identity(), [], calibration=batches)
    assert first_batch(subject) == first_batch(subject) == "first"


def test_no_batch_is_one_clear_line() -> None:
    for ask in (run_calibration, first_batch):
        with pytest.raises(MethodInputError, match="at least one calibration batch"):
            ask(subject_of(nn.Identity(), []))
    assert str(saw_nothing("head.input_quantizer")).startswith("head.input_quantizer saw no tensor")

"""TVM: the numbers of torch, bit for bit those of the integer graph, and the reason where it is not there."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from i_vit_models import SIZE, batches, calibrated, vit

from vitq.benchmarks.measure.on_runtimes import forms_of
from vitq.benchmarks.runtimes.tvm_models import integer_runtime, runtime
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.integer import integer

CPU = torch.device("cpu")
EXEC = "integer-only:torch"
here = pytest.mark.skipif(integer_runtime.missing() is not None, reason=str(integer_runtime.missing()))


@here
@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 8])
def test_tvm_gives_torch_s_numbers_and_the_integer_form_s_bit_for_bit(batch: int) -> None:
    model, images = vit(depth=1), batches(1)[0][0][:batch]
    form = integer(calibrated(model, Forms()), SIZE)
    runtimes = {"tvm": runtime, "tvm-integer": integer_runtime}
    forms, left = forms_of(model, form, EXEC, images, runtimes, 2)
    assert set(left) == {"tvm"}
    assert forms["fp32:tvm"].difference < 1e-5
    assert forms["fp32:tvm"].operators["MatMul"] == {"fp32": 8}
    assert forms["integer-only:tvm"].difference == 0
    assert sum(forms["integer-only:tvm"].operators["MatMul"].values()) == 8
    assert "fp32" not in forms["integer-only:tvm"].operators["MatMul"]
    for again in (-images, 40 * images, torch.zeros_like(images)):
        assert torch.equal(forms["integer-only:tvm"].run(again), form(again))


def test_models_that_are_not_served_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "fake-quant" in str(runtime.unsupported(vit(), "fake-quant"))
    assert runtime.unsupported(vit(), "fp32") is None
    assert "I-ViT" in str(integer_runtime.unsupported(vit(), EXEC))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert runtime.missing() == "apache-tvm not installed: pip install apache-tvm"
    assert integer_runtime.missing() == "apache-tvm and onnx not installed: pip install apache-tvm onnx"

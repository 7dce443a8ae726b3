"""torch compiled and in bfloat16: the numbers of FP32, and where there is no compiler or no form, the reason."""

from __future__ import annotations

import shutil

import pytest
import torch
from i_vit_models import batches, vit

from vitq.benchmarks.measure.on_runtimes import BF16_TOLERANCE, forms_of
from vitq.benchmarks.runtimes import torch_bf16, torch_compile

COMPILED, BF16 = torch_compile.runtime, torch_bf16.runtime


def test_bfloat16_is_held_to_fp32_by_its_own_tolerance() -> None:
    model, images = vit(depth=1), batches(1)[0][0][:2]
    forms, left = forms_of(model, model, "fake-quant", images, {"torch-bf16": BF16}, 1)
    form = forms["bf16:torch"]
    assert form.reference == "fp32"
    assert 1e-3 < form.difference < BF16_TOLERANCE  # it would not pass for FP32
    assert form.run(images).dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in model.parameters())  # the model itself is left as it was
    assert str(left["torch-bf16"]) == "bfloat16 is a form of FP32 models, not of fake-quant"


@pytest.mark.slow
@pytest.mark.skipif(COMPILED.missing() is not None, reason=str(COMPILED.missing()))
def test_inductor_gives_torch_s_numbers() -> None:
    model, images = vit(depth=1), batches(1)[0][0][:2]
    forms, left = forms_of(model, model, "fake-quant", images, {"torch-compile": COMPILED}, 1)
    assert forms["fp32:torch-compile"].difference < 1e-5
    assert str(left["torch-compile"]) == "torch.compile is measured on FP32 models, not on fake-quant"


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "needs a C++ compiler" in str(COMPILED.missing())
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert COMPILED.missing() is None

"""RepQ-ViT's time in units of one FP32 forward pass, both measured in turns in one run.

`pytest benchmarks/timings --benchmark-only`; the bounds are those the project promises: calibration and
reparameterization of ViT-Tiny with 32 images within 6 forward passes, a fake-quant forward within 1.5.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from vitq.methods.bits import Bits
from vitq.methods.repq_vit import method as repq_vit
from vitq.methods.repq_vit.options import Options
from vitq.subject import InputSpec, Subject

BATCH, ROUNDS = 32, 5


def quantize(model: nn.Module, images: Tensor) -> nn.Module:
    """The model at W4A4, calibrated on one batch; losses are never asked for."""

    def unused(*_: Any) -> Any:
        raise AssertionError("RepQ-ViT uses no loss")

    subject = Subject(
        model=model, forward=lambda m, x: m(x), calibration=lambda: iter([images]), example=lambda: images[:1],
        loss=unused, distance=unused, distill=unused, digest=unused, synthesize=unused,
        input=InputSpec((3, 224, 224), (0.5,) * 3, (0.5,) * 3),
    )  # fmt: skip
    return repq_vit.quantize(subject, Bits(4, 4), Options()).model


@pytest.fixture(scope="module")
def setting() -> tuple[nn.Module, Tensor]:
    """ViT-Tiny with random weights, which cost the same time as trained ones, and a batch of 224x224 images."""
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224").eval(), torch.randn(BATCH, 3, 224, 224)


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(benchmark: Any, fp32: Callable[[], object], other: Callable[[], object]) -> float:
    """Median ratio of `other` to `fp32`, run in turns; FP32 runs right before each timed round."""
    fp32_seconds: list[float] = []
    fp32(), other()
    benchmark.pedantic(other, setup=lambda: fp32_seconds.append(seconds(fp32)), rounds=ROUNDS)
    ratio = float(benchmark.stats.stats.median / statistics.median(fp32_seconds))
    benchmark.extra_info.update(
        batch=BATCH, threads=torch.get_num_threads(), fp32_seconds=statistics.median(fp32_seconds), ratio=ratio
    )
    return ratio


def test_calibration_and_reparameterization(benchmark: Any, setting: tuple[nn.Module, Tensor]) -> None:
    """Both passes of `quantize`, at most 6 FP32 forward passes."""
    model, images = setting
    copies = [copy.deepcopy(model) for _ in range(ROUNDS + 1)]

    def fp32() -> None:
        with torch.inference_mode():
            model(images)

    ratio = compare(benchmark, fp32, lambda: quantize(copies.pop(), images))
    assert ratio <= 6, f"calibration takes {ratio:.2f} FP32 forward passes"


def test_fake_quant_forward(benchmark: Any, setting: tuple[nn.Module, Tensor]) -> None:
    """An evaluation forward, at most 1.5 times FP32's."""
    model, images = setting
    quantized = quantize(copy.deepcopy(model), images)

    def run(which: nn.Module) -> None:
        with torch.inference_mode():
            which(images)

    ratio = compare(benchmark, lambda: run(model), lambda: run(quantized))
    assert ratio <= 1.5, f"a fake-quant forward takes {ratio:.2f} times FP32's"

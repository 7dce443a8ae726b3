"""The integer-only engine of I-ViT on DeiT-S 224: its calls, and in turns with FP32 in eager torch and `_int_mm`."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch

from vitq.benchmarks.runtimes.numba_integer import runtime
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Output
from vitq.methods.i_vit.integer import integer
from vitq.methods.i_vit.network import Network

GMACS = 4.6
"""Of DeiT-S at 224 an image."""
THREADS, ROUNDS = 2, 7


@pytest.fixture(scope="module")
def models() -> tuple[torch.nn.Module, Network, torch.Tensor]:
    """DeiT-S with random weights, its integer form, and eight images."""
    torch.manual_seed(0)
    full = timm.create_model("deit_small_patch16_224").eval()
    network, images = Network(copy.deepcopy(full), Forms()).eval(), torch.randn(8, 3, 224, 224)
    outputs = [m for m in network.modules() if isinstance(m, Output)]
    with torch.no_grad():
        for output in outputs:
            output.observing = True
        network(images[:1])
        for output in outputs:
            output.observing = False
    return full, integer(network, (3, 224, 224)), images


def in_turns(calls: list[Callable[[], Any]]) -> list[float]:
    """Median seconds of each call, all called once a round."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, found in zip(calls, seconds, strict=True):
            begin = time.perf_counter()
            call()
            found.append(time.perf_counter() - begin)
    return [statistics.median(found) for found in seconds]


@pytest.mark.parametrize("batch", [1, 8])
@torch.no_grad()
def test_the_engine(benchmark: Any, models: Any, batch: int) -> None:
    """Exact first; then ratios to FP32 and to `_int_mm`'s rate of multiplications."""
    full, network, images = models
    given = images[:batch]
    torch.set_num_threads(THREADS)
    engine = runtime.compile(network, given, threads=THREADS, device=torch.device("cpu"))
    assert torch.equal(engine(given), network(given))
    left, right = torch.ones(197 * batch, 384, dtype=torch.int8), torch.ones(1536, 384, dtype=torch.int8)
    eager, ours, product = in_turns(
        [lambda: full(given), lambda: engine(given), lambda: torch._int_mm(left, right.t())]
    )
    rate, peak = GMACS * batch / ours, left.numel() * len(right) / product / 1e9
    benchmark.extra_info.update(fp32_eager_ratio=eager / ours, gmacs=rate, share_of_int_mm=rate / peak)
    benchmark.pedantic(lambda: engine(given), rounds=5, warmup_rounds=1)

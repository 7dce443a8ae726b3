"""The integer and the binary engine on DeiT-S 224 with random weights, in turn with FP32 and with OpenVINO.

Every ratio is of one process and one run. Each engine's output is first held to that of its reference, bit for bit.
"""

from __future__ import annotations

import copy
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from vitq.benchmarks.runtimes import numba_integer, numba_xnor, open_vino
from vitq.methods.binary_vit import method as binary_vit
from vitq.methods.binary_vit.packed import pack
from vitq.methods.bits import Bits
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Output
from vitq.methods.i_vit.integer import integer
from vitq.methods.i_vit.network import Network

GMACS = 4.6
"""Of DeiT-S at 224, an image."""
THREADS, ROUNDS = 2, 9
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def full() -> nn.Module:
    """DeiT-S in FP32."""
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    return timm.create_model("deit_small_patch16_224").eval()


@pytest.fixture(scope="module")
def network(full: nn.Module) -> Network:
    """Its integer form, ranges of one image."""
    made = Network(copy.deepcopy(full), Forms()).eval()
    outputs = [module for module in made.modules() if isinstance(module, Output)]
    for output in outputs:
        output.observing = True
    with torch.no_grad():
        made(torch.randn(1, 3, 224, 224))
    for output in outputs:
        output.observing = False
    return integer(made, (3, 224, 224))


@pytest.fixture(scope="module")
def packed(full: nn.Module) -> nn.Module:
    """Its binary form, packed."""
    return pack(binary_vit.prepare(copy.deepcopy(full), Bits.parse("W1A1"), binary_vit.Options()))


def in_turn(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Median milliseconds of each call, all called once a round, the first round left out."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            found[name].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(times[1:]) for name, times in found.items()}


def openvino_forms(full: nn.Module, images: Tensor) -> dict[str, Callable[[], Any]]:
    """OpenVINO in FP32 and, where nncf is installed, in INT8 as nncf makes it for transformers."""
    if open_vino.runtime.missing():
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forms = {"openvino fp32": open_vino.runtime.compile(full, images, threads=THREADS, device=CPU)}
        if importlib.util.find_spec("nncf"):
            forms["openvino int8"] = open_vino.OpenVinoModel(_by_nncf(full, images), quantized=True)
    return {name: partial(form, images) for name, form in forms.items()}


def _by_nncf(full: nn.Module, images: Tensor) -> Any:
    import nncf
    import openvino

    made = openvino.convert_model(full, example_input=images, input=[tuple(images.shape)])
    data = nncf.Dataset([images.numpy()])
    quantized = nncf.quantize(made, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=1)
    how = {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY"}
    return openvino.Core().compile_model(quantized, "CPU", how)


def products(batch: int) -> dict[str, Callable[[], Any]]:
    """`torch._int_mm` on the products of fc1, which the rate of INT8 is taken from."""
    left = torch.randint(-128, 127, (197 * batch, 384), dtype=torch.int8)
    right = torch.randint(-128, 127, (1536, 384), dtype=torch.int8).t()
    return {"int_mm": lambda: torch._int_mm(left, right)}


@pytest.mark.parametrize("batch", [1, 8])
@torch.no_grad()
def test_engines(benchmark: Any, full: nn.Module, network: Network, packed: nn.Module, batch: int) -> None:
    """Milliseconds of every form in turn, and both engines' ratios to eager FP32 and to OpenVINO's."""
    images = torch.randn(batch, 3, 224, 224)
    whole = numba_integer.runtime.compile(network, images, threads=THREADS, device=CPU)
    signs = numba_xnor.runtime.compile(packed, images, threads=THREADS, device=CPU)
    assert torch.equal(whole(images), network(images))
    assert torch.equal(signs(images), packed(images))
    calls = {"fp32": lambda: full(images), "integer-only": lambda: whole(images), "xnor": lambda: signs(images)}
    took = in_turn(calls | openvino_forms(full, images) | products(batch))
    peak = 197 * batch * 384 * 1536 / took["int_mm"] / 1e6
    ratios = {f"{name} / {engine}": took[name] / took[engine] for engine in ("integer-only", "xnor") for name in took}
    rate = GMACS * batch / took["integer-only"] * 1e3
    benchmark.extra_info.update(ms=took, ratios=ratios, gmacs=rate, int_mm_gmacs=peak, share_of_int_mm=rate / peak)
    benchmark.pedantic(lambda: whole(images), rounds=3, warmup_rounds=1)


def test_the_binary_product(benchmark: Any) -> None:
    """1600 x 768 x 3072 by xor and popcount, in turn with the same product in INT8."""
    from vitq.benchmarks.runtimes.xnor.engine import XnorLinear
    from vitq.methods.binary_vit.layers import BinaryLinear
    from vitq.methods.binary_vit.packed import PackedLinear

    torch.set_num_threads(THREADS)
    layer = XnorLinear(PackedLinear(BinaryLinear.of(nn.Linear(768, 3072), asm=False)), THREADS)
    x, left = torch.randn(1600, 768), torch.randint(-128, 127, (1600, 768), dtype=torch.int8)
    right = torch.randint(-128, 127, (3072, 768), dtype=torch.int8).t()
    with torch.inference_mode():
        took = in_turn({"xnor": lambda: layer(x), "int_mm": lambda: torch._int_mm(left, right)})
    benchmark.extra_info.update(ms=took, times_as_fast_as_int_mm=took["int_mm"] / took["xnor"])
    with torch.inference_mode():
        benchmark.pedantic(lambda: layer(x), rounds=5, warmup_rounds=1)

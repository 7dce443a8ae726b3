"""The INT8 engine: its integers those of int64, its logits fake quantization's, 4-bit weights two a byte."""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from i_vit_models import batches, swin, vit
from subjects import subject_of
from torch import Tensor, nn

from vitq.benchmarks.runtimes import registry
from vitq.benchmarks.runtimes.numba_int8 import runtime
from vitq.errors import UnsupportedError
from vitq.methods.architectures.explicit import make_explicit
from vitq.methods.bits import Bits
from vitq.methods.registry import load
from vitq.methods.repq_vit.log_quantizers import LogQuantizer
from vitq.methods.toolkit.layers import QLinear, QMatMul
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer

pytest.importorskip("numba", reason="numba is not installed: pip install vitq[runtimes]")

from vitq.benchmarks.runtimes.int4 import kernels, layers, rows
from vitq.benchmarks.runtimes.int4.blocks import Int8Block
from vitq.benchmarks.runtimes.int4.engine import Engine
from vitq.benchmarks.runtimes.int4.packing import panels_of

CPU = torch.device("cpu")
ROUNDED = {"rounded_zero_point": True}


def quantized(model: nn.Module, method: str, bits: str, **options: Any) -> nn.Module:
    """A small model by a method, calibrated on the images that it is tested on."""
    found = load(method)
    subject = subject_of(make_explicit(copy.deepcopy(model)), [images(8)], side=16)
    return found.quantize(subject, Bits.parse(bits), found.Options(**options)).model.eval()


def images(count: int) -> Tensor:
    return batches(1)[0][0][:count]


def uniform(bits: int, step: float, zero: float) -> UniformQuantizer:
    made = UniformQuantizer(bits, None)  # type: ignore[arg-type]
    made.set_grid(torch.tensor(step), torch.tensor(zero))
    made.mode = "on"
    return made


def logarithmic(bits: int, steps: int, overflow: Any) -> LogQuantizer:
    made = LogQuantizer(bits, steps, overflow)
    made.restore_state({"scale": torch.tensor(0.3)})
    return made


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 40), k=st.integers(1, 100), columns=st.integers(1, 150), nibbles=st.booleans(),
    plain=st.booleans(), threads=st.integers(1, 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_products_equal_int64(
    count: int, k: int, columns: int, nibbles: bool, plain: bool, threads: int, seed: int
) -> None:
    """Integers up to their ends, by a grid of step 1, through the kernel that a linear layer is."""
    rng = np.random.default_rng(seed)
    codes = rng.choice([0, 15, 7] if nibbles else [-128, 127, -1, 5], (columns, k))
    x, zero = rng.choice([0.0, 255.0, 17.0], (count, k)).astype(np.float32), rng.integers(-20, 20, columns)
    p, work = panels_of(codes, nibbles), layers.Work(threads, plain)
    wide = np.zeros((4, p.count * 64), np.int32)
    wide[0, :columns] = 3 * codes.sum(1)
    wide[1, :columns], wide[2] = zero, 1
    out, chunk = np.empty(count * columns, np.float32), 42
    kernels.linear(
        x.reshape(-1), count, k, np.array([1, 0, 255, 0], np.float32), p.codes, nibbles, p.groups, wide[0], wide[1],
        wide[2].astype(np.float32), wide[3].astype(np.float32), columns, out, chunk, threads,
        work.take("codes", chunk * p.groups * 8, np.uint8), work.take("sums", chunk, np.int32),
        work.take("acc", 384, np.int32), plain,
    )  # fmt: skip
    whole = x.astype(np.int64)
    wanted = whole @ codes.T + 3 * codes.sum(1) - zero * whole.sum(1, keepdims=True)
    assert np.array_equal(out.reshape(count, columns), wanted.astype(np.float32))


@settings(max_examples=25, deadline=None)
@given(
    bits=st.sampled_from([2, 4, 6, 8]), entering=st.sampled_from([4, 6, 8]), tokens=st.integers(1, 30),
    k=st.integers(1, 70), columns=st.integers(1, 80), bias=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_linear_layer(bits: int, entering: int, tokens: int, k: int, columns: int, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    weight = UniformQuantizer(bits, None, axis=0, channels=columns)  # type: ignore[arg-type]
    weight.set_grid(torch.rand(columns) * 0.1 + 0.01, torch.randint(-5, 2**bits + 5, (columns,)).float())
    weight.mode = "on"
    layer = QLinear.of(nn.Linear(k, columns, bias=bias), weight, uniform(entering, 0.05, 2.0 ** (entering - 1) + 1))
    x = torch.randn(2, tokens, k)
    with torch.no_grad():
        assert torch.allclose(layers.Int8Linear(layer, layers.Work(2, False))(x), layer(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "left",
    [
        uniform(8, 1 / 255, 0),
        uniform(4, 1 / 15, 1),
        *(logarithmic(4, steps, overflow) for steps in (1, 2) for overflow in ("zero", "clip")),
    ],
)
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 1), (7, 13, 5), (20, 70, 65)])
def test_attention_s_two_products(left: Quantizer, plain: bool, n: int, m: int, d: int) -> None:
    torch.manual_seed(0)
    work = layers.Work(2, plain)
    av = QMatMul(left, uniform(8, 0.03, 120))
    qk = QMatMul(uniform(6, 0.1, 30), uniform(8, 0.02, 140))
    p, v = torch.softmax(3 * torch.randn(2, 3, n, m), -1), torch.randn(2, 3, m, d)
    q, k = torch.randn(2, 3, n, d), torch.randn(2, 3, m, d)
    with torch.no_grad():
        assert torch.allclose(layers.Int8MatMul(av, work)(p, v), av(p, v), rtol=1e-5, atol=1e-5)
        assert torch.allclose(layers.Int8MatMul(qk, work)(q, k.mT), qk(q, k.mT), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("overflow", ["zero", "clip"])
def test_logarithmic_codes_are_read_from_floats(bits: int, steps: int, overflow: str) -> None:
    quantizer = logarithmic(bits, steps, overflow)
    x = torch.rand(3000, generator=torch.Generator().manual_seed(0)) ** 8
    x[:3] = torch.tensor([0.0, 1.0, 0.3])
    codes = np.empty(3000, np.int32)
    last = np.int32(quantizer.code_limits[1])
    rows.log_codes_row(x.numpy(), 0, 3000, np.float32(0.3), last, steps == 2, codes)
    assert torch.equal(torch.from_numpy(codes), quantizer.codes(x))


def test_rows_are_torch_s() -> None:
    x = torch.randn(300, generator=torch.Generator().manual_seed(0)) * 3
    gelu, soft, normal = x.numpy().copy(), x.numpy().copy(), np.empty(300, np.float32)
    rows.gelu_row(gelu, 0, 300)
    rows.softmax_row(soft, 300, np.empty(300, np.int32))
    rows.norm_row(x.numpy(), 0, 300, 2 * x.numpy(), x.numpy(), np.float32(1e-6), normal)
    assert torch.allclose(torch.from_numpy(gelu), nn.functional.gelu(x), rtol=0, atol=2e-6)
    assert torch.allclose(torch.from_numpy(soft), x.softmax(0), rtol=3e-6, atol=0)
    assert torch.allclose(
        torch.from_numpy(normal), nn.functional.layer_norm(x, (300,), 2 * x, x, 1e-6), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("method", "bits", "options", "storage", "products"),
    [
        ("repq_vit", "W4A4", ROUNDED, "int8 (int4 storage)", {"int8": 4}),
        ("repq_vit", "W4A8", ROUNDED, "int8 (int4 storage)", {"int8": 2, "fp32": 2}),
        ("repq_vit", "W6A6", ROUNDED, "int8", {"int8": 2, "fp32": 2}),
        ("repq_vit", "W8A8", ROUNDED | {"softmax": "uniform"}, "int8", {"int8": 4}),
        ("minmax", "W4A4", {}, "int8 (int4 storage)", {"int8": 4}),
        ("minmax", "W8A8", {}, "int8", {"int8": 4}),
    ],
)
@pytest.mark.parametrize("plain", [False, True])
def test_a_vit(method: str, bits: str, options: dict[str, Any], storage: str, products: Any, plain: bool) -> None:
    """Block by block, so that no activation of one is moved over a boundary by the rounding of another."""
    model, given = quantized(vit(), method, bits, **options), images(3)
    assert runtime.unsupported(model, "fake-quant") is None
    engine = Engine(model, 2, plain=plain)
    told = engine.executed()
    assert told["Linear"] == {storage: 9}
    assert told["Conv"] == {"int8" if method == "repq_vit" and bits[1] != "4" else storage: 1}
    assert told["MatMul"] == products
    assert engine.exec == "int8-kernel:numba"
    with torch.no_grad():
        x = model.patch_embed(given)
        assert torch.allclose(engine.model.patch_embed(given), x, rtol=1e-5, atol=1e-5)  # type: ignore[operator]
        for block, fused in zip(model.blocks, engine.model.blocks, strict=True):  # type: ignore[arg-type]
            assert isinstance(fused, Int8Block)
            wanted, got = block(x), fused(x)
            off = (got - wanted).abs() > 1e-4 * wanted.abs().max()
            assert off.float().mean() < 0.05  # a code of GELU's output that sums moved over a boundary moves a row
            x = wanted


@pytest.mark.parametrize("batch", [1, 3])
def test_logits_are_fake_quantization_s(batch: int) -> None:
    model, given = quantized(vit(), "minmax", "W4A4"), images(batch)
    compiled = runtime.compile(model, given, threads=2, device=CPU)
    threads = torch.get_num_threads()
    with torch.no_grad():
        assert torch.allclose(compiled(given), model(given), rtol=1e-4, atol=1e-4)
    assert torch.get_num_threads() == threads


def test_swin_runs_layer_by_layer() -> None:
    model, given = quantized(swin(), "minmax", "W4A4"), images(2)
    compiled = runtime.compile(model, given, threads=2, device=CPU)
    told = compiled.executed()
    assert told["MatMul"] == {"int8": 8}
    assert set(told["Linear"]) == {"int8 (int4 storage)"}
    with torch.no_grad():
        assert torch.allclose(compiled(given), model(given), rtol=1e-3, atol=1e-3)


def test_4_bit_weights_take_half_the_bytes() -> None:
    four, eight = (Engine(quantized(vit(), "minmax", bits), 1) for bits in ("W4A8", "W8A8"))
    assert 2 * four.weight_bytes == eight.weight_bytes
    assert not any(isinstance(module, QLinear) for module in four.model.modules())


def test_refusals_name_the_tensor() -> None:
    released = quantized(vit(), "repq_vit", "W4A4")
    assert "blocks.0.attn.qkv.input: its zero point" in str(runtime.unsupported(released, "fake-quant"))
    assert "rounded_zero_point" in str(runtime.unsupported(released, "fake-quant"))
    channel = quantized(vit(), "repq_vit", "W4A4", layernorm="channel")
    assert "each channel" in str(runtime.unsupported(channel, "fake-quant"))
    assert "no quantized linear layer" in str(runtime.unsupported(vit(), "fake-quant"))
    assert "not fp32" in str(runtime.unsupported(vit(), "fp32"))
    with pytest.raises(UnsupportedError, match="its zero point"):
        runtime.compile(released, images(1), threads=1, device=CPU)
    with pytest.raises(UnsupportedError, match="not on cuda"):
        runtime.compile(released, images(1), threads=1, device=torch.device("cuda"))


def test_sums_that_int32_may_not_hold_are_refused() -> None:
    layer = QLinear.of(nn.Linear(400, 2), uniform(8, 0.1, 100_000), uniform(8, 0.1, 0))
    with pytest.raises(UnsupportedError, match="int32 does not hold"):
        layers.Int8Linear(layer, layers.Work(1, False))


def test_without_numba_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry.load("numba-int8") is runtime
    assert runtime.missing() is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "pip install" in str(runtime.missing())
    assert "not fp32" in str(runtime.unsupported(vit(), "fp32"))

"""The binary engine in Triton: every product and every logit that of the packed form in torch, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from triton_places import DEVICE, run_interpreted, where_kernels_run

pytest.importorskip("triton", reason="triton is not installed: pip install triton")

from vitq.benchmarks.runtimes.triton_xnor import runtime
from vitq.errors import UnsupportedError
from vitq.methods.binary_vit import method as binary_vit
from vitq.methods.binary_vit.layers import BinaryLinear, BinaryMatMul
from vitq.methods.binary_vit.packed import PackedLinear, PackedMatMul, pack
from vitq.methods.bits import Bits
from vitq.tasks.registry import load


def randomize(module: nn.Module, seed: int) -> nn.Module:
    """Shifts, scales and thresholds that nothing has in common."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.rpartition(".")[2] in ("shift", "adapt", "log_scale"):
                parameter.normal_()
    return module


@where_kernels_run
@pytest.mark.parametrize("asm", [True, False])
@pytest.mark.parametrize(
    ("shape", "columns", "bias"),
    [
        ((1, 1, 1), 1, False), ((2, 17, 64), 70, True), ((3, 40, 33), 64, True), ((2, 3, 5, 200), 9, False),
        ((4, 31), 7, True),
    ],
)  # fmt: skip
def test_a_linear_layer(shape: tuple[int, ...], columns: int, bias: bool, asm: bool) -> None:
    from vitq.benchmarks.runtimes.gpu.xnor_engine import XnorLinear

    layer = randomize(BinaryLinear.of(nn.Linear(shape[-1], columns, bias=bias), asm), 1)
    packed, x = PackedLinear(layer).to(DEVICE), torch.randn(shape, device=DEVICE)
    x[..., ::3] = 0  # a sign of 0 is +1
    with torch.inference_mode():
        assert torch.equal(XnorLinear(packed)(x), packed(x))


@where_kernels_run
@pytest.mark.parametrize("asm", [True, False])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3, 17, 17, 16), (1, 2, 40, 70, 33), (2, 1, 65, 140, 80)])
def test_attention_s_two_products(sizes: tuple[int, ...], asm: bool) -> None:
    from vitq.benchmarks.runtimes.gpu.xnor_engine import XnorMatMul

    batch, heads, n, m, d = sizes
    first = PackedMatMul(randomize(BinaryMatMul.query_key(heads, d, asm), 2)).to(DEVICE)
    second = PackedMatMul(randomize(BinaryMatMul.attention_value(heads, d, asm), 3)).to(DEVICE)
    q = torch.randn(batch, n, heads, d, device=DEVICE).transpose(1, 2)
    k = torch.randn(batch, heads, m, d, device=DEVICE).mT
    p, v = torch.rand(batch, heads, n, m, device=DEVICE), torch.randn(batch, heads, m, d, device=DEVICE)
    with torch.inference_mode():
        assert torch.equal(XnorMatMul(first)(q, k), first(q, k))
        assert torch.equal(XnorMatMul(second)(p, v), second(p, v))


@where_kernels_run
@pytest.mark.parametrize("name", ["digits_vit", "digits_swin"])
def test_a_whole_model(name: str) -> None:
    torch.manual_seed(0)
    model = load("classification").build_model(name)
    binary = randomize(binary_vit.prepare(model, Bits.parse("W1A1"), binary_vit.Options()), 1)
    batch = 1 if DEVICE.type == "cpu" else 2
    packed, images = pack(copy.deepcopy(binary)).to(DEVICE), torch.randn(batch, 3, 24, 24, device=DEVICE)
    assert runtime.unsupported(packed, "xnor:torch") is None
    compiled = runtime.compile(packed, images, threads=1, device=DEVICE)
    with torch.inference_mode():
        for given in (images, torch.randn_like(images))[:batch]:
            assert torch.equal(compiled(given), packed(given))
    assert compiled.exec == "xnor:triton"
    told = compiled.executed()
    assert told["MatMul"] == {"1": 8}
    assert told["Linear"]["1"] >= 16


@where_kernels_run
@pytest.mark.parametrize("native", [True, False])
def test_bits_are_counted(native: bool) -> None:
    from vitq.benchmarks.runtimes.gpu import bits, xnor_engine

    if native and not xnor_engine.NATIVE:
        pytest.skip("the instruction is a GPU's")
    words = [0, -1, 1, -(2**31), 2**31 - 1, 0x55555555, 0x0F0F0F0F, *range(3, 60)]
    x, zeros = torch.tensor(words, dtype=torch.int32, device=DEVICE), torch.zeros(1, dtype=torch.int32, device=DEVICE)
    factor, out = torch.ones(1, device=DEVICE), torch.zeros(len(words), 1, device=DEVICE)
    bits.product[(1, 1)](x, zeros, 0, factor, 0, factor, False, False, out, len(words), 1, 32, 1, native, 64, 16)
    assert out.flatten().tolist() == [32 - 2 * (word & 0xFFFFFFFF).bit_count() for word in words]


@where_kernels_run
def test_a_model_without_a_binary_product_is_refused() -> None:
    model = load("classification").build_model("digits_vit")
    assert "binary models" in str(runtime.unsupported(model, "fp32"))
    with pytest.raises(UnsupportedError, match="no binary product"):
        runtime.compile(model, torch.zeros(1, 3, 24, 24, device=DEVICE), threads=1, device=DEVICE)


@pytest.mark.slow
def test_in_triton_s_interpreter() -> None:
    """All of the above on the CPU, in a process of its own: Triton asks when kernels are imported."""
    run_interpreted(__file__, least=14)

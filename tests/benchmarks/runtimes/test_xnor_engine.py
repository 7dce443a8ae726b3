"""The binary engine: every product and every logit that of the packed form in torch, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch import nn

pytest.importorskip("numba", reason="numba is not installed: pip install vitq[runtimes]")

from vitq.benchmarks.runtimes.numba_xnor import runtime
from vitq.benchmarks.runtimes.xnor import probe, rows
from vitq.benchmarks.runtimes.xnor.blocks import least_probability
from vitq.benchmarks.runtimes.xnor.engine import XnorLinear, XnorMatMul
from vitq.errors import UnsupportedError
from vitq.methods.binary_vit import method as binary_vit
from vitq.methods.binary_vit.binarize import ProbabilityBinarizer
from vitq.methods.binary_vit.layers import BinaryLinear, BinaryMatMul
from vitq.methods.binary_vit.packed import PackedLinear, PackedMatMul, pack, set_kernel
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


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3), tokens=st.integers(1, 20), k=st.integers(1, 200), columns=st.integers(1, 70),
    asm=st.booleans(), bias=st.booleans(), threads=st.integers(1, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_linear_layer(
    batch: int, tokens: int, k: int, columns: int, asm: bool, bias: bool, threads: int, seed: int
) -> None:
    layer = randomize(BinaryLinear.of(nn.Linear(k, columns, bias=bias), asm), seed)
    packed, x = PackedLinear(layer), torch.randn(batch, tokens, k)
    x[..., ::3] = 0  # a sign of 0 is +1
    set_kernel(packed, "popcount")
    with torch.inference_mode():
        assert torch.equal(XnorLinear(packed, threads)(x), packed(x))


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 2), heads=st.integers(1, 3), n=st.integers(1, 40), m=st.integers(1, 140),
    d=st.integers(1, 80), asm=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_attention_s_two_products(batch: int, heads: int, n: int, m: int, d: int, asm: bool, seed: int) -> None:
    first = PackedMatMul(randomize(BinaryMatMul.query_key(heads, d, asm), seed))
    q, k = torch.randn(batch, n, heads, d).transpose(1, 2), torch.randn(batch, heads, m, d).mT
    second = PackedMatMul(randomize(BinaryMatMul.attention_value(heads, d, asm), seed))
    p, v = torch.rand(batch, heads, n, m), torch.randn(batch, heads, m, d)
    with torch.inference_mode():
        assert torch.equal(XnorMatMul(first, 2)(q, k), first(q, k))
        assert torch.equal(XnorMatMul(second, 2)(p, v), second(p, v))


@pytest.mark.parametrize("name", ["digits_vit", "digits_swin"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_whole_model(name: str, batch: int) -> None:
    torch.manual_seed(0)
    model = load("classification").build_model(name)
    binary = randomize(binary_vit.prepare(model, Bits.parse("W1A1"), binary_vit.Options()), 1)
    packed = pack(copy.deepcopy(binary))
    images = torch.randn(batch, 3, 24, 24)
    assert runtime.unsupported(packed, "xnor:torch") is None
    compiled = runtime.compile(packed, images, threads=2, device=torch.device("cpu"))
    with torch.inference_mode():
        wanted = packed(images)
    assert torch.equal(compiled(images), wanted)
    assert compiled.exec == "xnor:numba"
    told = compiled.executed()
    assert told["MatMul"] == {"1": 8}
    assert told["Linear"]["1"] >= 16


def vit(seed: int, channels: int = 128, bias: bool = True) -> nn.Module:
    """A packed ViT of two blocks on 17 tokens, its heads 64 channels wide."""
    torch.manual_seed(seed)
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=channels, depth=2, num_heads=channels // 64, mlp_ratio=2, num_classes=7,
        qkv_bias=bias,
    )  # fmt: skip
    binary = randomize(binary_vit.prepare(model.eval(), Bits.parse("W1A1"), binary_vit.Options()), seed)
    return pack(binary.eval())


@pytest.mark.parametrize(("batch", "bias"), [(1, True), (3, False)])
def test_fused_blocks(batch: int, bias: bool) -> None:
    packed, images = vit(1, bias=bias), torch.randn(batch, 3, 32, 32)
    compiled = runtime.compile(packed, images, threads=2, device=torch.device("cpu"))
    with torch.inference_mode():
        for each in (images, torch.randn(batch, 3, 32, 32), torch.randn(batch + 1, 3, 32, 32)):
            assert torch.equal(compiled(each), packed(each))
    told = compiled.executed()
    assert told["Linear"]["1"] == 8
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert told["FusedBlock"] == {"1": 2}


@pytest.mark.parametrize("part", ["_norms", "_means", "_softmax"])
def test_blocks_stay_torch_s_where_its_numbers_are_others(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, part, lambda *_: False)
    packed, images = vit(2), torch.randn(2, 3, 32, 32)
    compiled = runtime.compile(packed, images, threads=1, device=torch.device("cpu"))
    with torch.inference_mode():
        assert torch.equal(compiled(images), packed(images))
    assert "FusedBlock" not in compiled.executed()


def test_sixty_four_words_turned() -> None:
    bits = torch.randint(0, 2, (64, 64), generator=torch.Generator().manual_seed(0))
    words = (bits << torch.arange(64)).sum(1).numpy().view("uint64").copy()
    rows.transpose64(words)
    assert torch.equal((torch.from_numpy(words.view("int64"))[:, None] >> torch.arange(64)) & 1, bits.T)


@given(scale=st.floats(1e-4, 100))
def test_the_least_probability_is_where_the_bit_begins(scale: float) -> None:
    binarizer = ProbabilityBinarizer()
    with torch.no_grad():
        binarizer.log_scale.fill_(scale).log_()
        least = torch.tensor([float(least_probability(binarizer))])
        below = torch.nextafter(least, torch.zeros(1))
        assert binarizer.bits(least).item()
        assert not binarizer.bits(below).item()


def test_a_model_without_a_binary_product_is_refused() -> None:
    model = load("classification").build_model("digits_vit")
    assert "binary models" in str(runtime.unsupported(model, "fp32"))
    with pytest.raises(UnsupportedError, match="no binary product"):
        runtime.compile(model, torch.zeros(1, 3, 24, 24), threads=1, device=torch.device("cpu"))

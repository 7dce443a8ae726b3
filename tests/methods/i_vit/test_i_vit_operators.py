"""I-ViT's operators: the released code's vectors, and the paper's integers against exact ones."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import read
from torch import Tensor

from vitq.methods.i_vit import ablations, bounds, dyadic
from vitq.methods.i_vit import operators_paper as paper
from vitq.methods.i_vit import operators_release as release

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
SCALES = st.floats(min_value=2.0**-23, max_value=2.0**20)
INT64 = 2**63 - 1


@pytest.fixture(scope="module")
def vectors() -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in read("i_vit_operators.safetensors")[0].items()}


def real(vectors: dict[str, Tensor], name: str) -> Tensor:
    """The codes as the released code finds them: real value over scale."""
    scale = vectors[f"{name}_scale"]
    return release.split(vectors[name] * scale, scale)


def within_a_unit(got: Tensor, want: Tensor) -> None:
    assert (got - want).abs().max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_release_softmax_matches_the_vectors(vectors: dict[str, Tensor], bits: int) -> None:
    codes, scale = release.shiftmax(real(vectors, "softmax_in"), vectors["softmax_in_scale"], bits)
    within_a_unit(codes, vectors[f"softmax_{bits}_out"])
    torch.testing.assert_close(scale, vectors[f"softmax_{bits}_scale"], rtol=1e-6, atol=0)


def test_release_gelu_matches_the_vectors(vectors: dict[str, Tensor]) -> None:
    codes, scale = release.shift_gelu(real(vectors, "gelu_in"), vectors["gelu_in_scale"])
    within_a_unit(codes, vectors["gelu_out"])
    torch.testing.assert_close(scale, vectors["gelu_scale"], rtol=1e-6, atol=0)


def test_release_layernorm_matches_the_vectors(vectors: dict[str, Tensor]) -> None:
    gamma, beta = vectors["layernorm_gamma"], vectors["layernorm_beta"]
    codes, scale = release.layer_norm(real(vectors, "layernorm_in"), gamma, beta)
    torch.testing.assert_close(codes * scale, vectors["layernorm_out_dequantized"], rtol=0, atol=2.0**-20)
    torch.testing.assert_close(scale, vectors["layernorm_out_scale"], rtol=1e-6, atol=0)


def test_release_linear_requantize_and_residual_match_the_vectors(vectors: dict[str, Tensor]) -> None:
    v = vectors
    weight, w_scale = release.weight_codes(v["linear_weight"])
    assert torch.equal(weight, v["linear_weight_codes"])
    torch.testing.assert_close(w_scale, v["linear_weight_scale"], rtol=1e-6, atol=0)
    codes, scale = release.linear(real(v, "linear_in"), v["linear_in_scale"], v["linear_weight"], v["linear_bias"])
    within_a_unit(codes, v["linear_out_dequantized"] / scale)
    torch.testing.assert_close(scale, v["linear_out_scale"], rtol=1e-6, atol=0)
    within_a_unit(release.requantize(codes, scale, v["requantize8_scale"], 8), v["requantize8_out"])
    identity, sum_scale = (real(v, "residual_identity"), v["residual_identity_scale"]), v["residual16_scale"]
    within_a_unit(release.residual_sum((codes, scale), identity, sum_scale), v["residual16_out"])


@given(st.floats(min_value=2.0**-60, max_value=2.0**40), st.integers(-(2**31) + 1, 2**31 - 1), st.integers(8, 31))
def test_requantization_is_the_dyadic_product_in_unbounded_integers(ratio: float, code: int, bits: int) -> None:
    number = dyadic.dyadic(torch.tensor(ratio, dtype=torch.float64))
    b, c = int(number.multiplier), int(number.shift)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for rounding, half in (("nearest", (1 << c) >> 1), ("floor", 0)):
        want = min(max((code * b + half) >> c, low), high)
        got = dyadic.requantize(torch.tensor(code), number, bits, rounding)  # type: ignore[arg-type]
        assert int(got) == want
    nearest = dyadic.requantize(torch.tensor(code), number, bits, "nearest")
    assert abs(int(nearest) - min(max(code * ratio, low), high)) <= 0.5 + 2.0 ** (bits - 30)


def exponential(code: int, one: int, shift: int) -> int:
    power = code + (code >> 1) - (code >> 4)
    q, r = divmod(-power, one)
    return (((-r) >> 1) + one << shift) >> min(q, paper.DIVISION_BITS)


def divide(a: int, b: int, bits: int) -> int:
    factor = 2**paper.DIVISION_BITS // max(b, 1)
    assert factor * a <= INT64
    return min((factor * a) >> (paper.DIVISION_BITS - (bits - 1)), 2 ** (bits - 1) - 1)


@given(SCALES, st.lists(st.integers(-128, 127) | st.integers(-(2**30) - 128, -(2**30) + 127), min_size=1, max_size=40))
def test_shiftmax_never_overflows(scale: float, row: list[int]) -> None:
    one = paper.unit(scale)
    powers = [exponential(x - max(row), one, paper.SOFTMAX_SHIFT) for x in row]
    assert max(powers) * bounds.MAX_TOKENS <= INT64
    for bits in (8, 16):
        got = paper.shiftmax(torch.tensor([row]), one, bits)[0].tolist()
        assert got == [divide(e, sum(powers), bits) for e in powers]


@given(SCALES, st.lists(st.integers(-128, 127), min_size=1, max_size=40))
def test_shift_gelu_never_overflows(scale: float, row: list[int]) -> None:
    one = paper.unit(scale)
    shift = paper.gelu_shift(one)
    steep = [x + (x >> 1) + (x >> 3) + (x >> 4) for x in row]
    top = max(*steep, 0)
    powers, last = [exponential(x - top, one, shift) for x in steep], exponential(-top, one, shift)
    want = [x * divide(e, e + last, 8) for x, e in zip(row, powers, strict=True)]
    assert paper.shift_gelu(torch.tensor([row]), one, shift)[0].tolist() == want


LIMIT = 2**23
ROWS = st.lists(
    st.sampled_from([-LIMIT, LIMIT - 1, 0, 1, -1]) | st.integers(-LIMIT, LIMIT - 1), min_size=1, max_size=24
)


@given(ROWS, st.sampled_from([1, 2, 64]))
def test_layernorm_never_overflows_and_normalizes(row: list[int], repeat: int) -> None:
    row = row * repeat
    n = len(row)
    mean = (2 * sum(row) + n) // (2 * n)
    squares = sum((x - mean) ** 2 for x in row)
    assert squares * (bounds.MAX_CHANNELS // n) <= INT64
    root = int(paper.int_sqrt(torch.tensor(squares)))
    assert root in {max(math.isqrt(squares), 1), math.isqrt(squares) + 1}
    want = [((x - mean) * (2**60 // root)) >> 36 for x in row]
    assert paper.normalize(torch.tensor([row]))[0].tolist() == want
    assert max(map(abs, want)) < 2**25


@given(st.integers(0, INT64 // 4))
def test_integer_square_root_is_the_root_or_one_more(value: int) -> None:
    exact = math.isqrt(value)
    assert int(paper.int_sqrt(torch.tensor(value))) in {max(exact, 1), exact + 1}


@given(
    st.lists(st.tuples(st.floats(-1e8, 1e8), st.floats(-1e12, 1e12)), min_size=1, max_size=8),
    st.integers(-(2**25), 2**25),
)
def test_affine_requantization_never_overflows(rows: list[tuple[float, float]], code: int) -> None:
    slope, offset = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    constants = dyadic.affine(slope, offset)
    c = int(constants.shift)
    got = dyadic.affine_requantize(torch.full((len(rows),), code), constants, 8, "nearest").tolist()
    for y, b, beta in zip(got, constants.multiplier.tolist(), constants.bias.tolist(), strict=True):
        total = code * b + beta + ((1 << c) >> 1)
        assert abs(total) <= INT64
        assert y == min(max(total >> c, -128), 127)


def test_affine_is_gamma_and_beta_of_any_sign() -> None:
    gamma = torch.tensor([0.0, -1.5, 2.0, -1e-6], dtype=torch.float64)
    beta = torch.tensor([3.0, -2.0, 0.0, 50.0], dtype=torch.float64)
    unit = 2.0**-20
    codes = torch.arange(-(2**24), 2**24, 99991)[:, None].expand(-1, 4)
    got = dyadic.affine_requantize(codes, dyadic.affine(gamma * unit * 8, beta * 8), 8, "nearest")
    want = ((codes * unit * gamma + beta) * 8).clamp(-128, 127)
    assert (got - want).abs().max() <= 0.5 + 1e-6


def test_every_intermediate_fits_its_container() -> None:
    for bound in bounds.analysis():
        assert bound.fits, bound
    assert any(not bound.fits for bound in bounds.analysis(inputs=2**18)), "an analysis that can fail"
    assert any(not bound.fits for bound in bounds.analysis(channels=2**16))


@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=30)
def test_integer_products_are_exact(n: int, k: int, m: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randint(-128, 128, (2, n, k), generator=generator, dtype=torch.int8)
    right = torch.randint(-128, 128, (2, k, m), generator=generator, dtype=torch.int8)
    want = left.long() @ right.long()
    assert torch.equal(paper.product(left, right).long(), want)
    wide = torch.randint(0, 2**15, (2, n, k), generator=generator, dtype=torch.int16)
    assert torch.equal(paper.wide_product(wide, right).long(), wide.long() @ right.long())
    weight = right[0].t().contiguous()
    assert torch.equal(paper.linear(left, weight, None).long(), left.long() @ right[0].long())


@pytest.mark.parametrize("k", [1, 2**10, 2**10 + 1, 2**12])
def test_attention_products_in_float32_are_exact_at_the_largest_codes(k: int) -> None:
    low = torch.full((2, 1, 3, k), -128, dtype=torch.int8)
    odd = torch.where(torch.arange(k) % 2 == 0, -128, 127).to(torch.int8)
    for left, right in ((low, low), (low, odd.expand(2, 1, 3, k)), (odd.expand(2, 1, 3, k), low)):
        want = left.long() @ right.long().transpose(-1, -2)
        for apply in (paper.float_product, paper.product):
            got = apply(left, right.transpose(-1, -2))
            assert got.dtype is torch.int32
            assert torch.equal(got.long(), want)


@given(st.integers(1, 40), st.integers(1, 2100), st.integers(1, 20), st.integers(0, 2**31))
@settings(max_examples=30)
def test_attention_products_in_float32_are_exact(n: int, k: int, m: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randint(-128, 128, (2, n, k), generator=generator, dtype=torch.int8)
    right = torch.randint(-128, 128, (2, k, m), generator=generator, dtype=torch.int8)
    assert torch.equal(paper.float_product(left, right).long(), left.long() @ right.long())


def test_the_right_operand_of_an_integer_matmul_lies_column_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    strides = []
    multiply = torch._int_mm

    def noted(left: Tensor, right: Tensor) -> Tensor:
        strides.append((left.stride(), right.stride()))
        return multiply(left, right)

    monkeypatch.setattr(torch, "_int_mm", noted)
    codes, weight = torch.ones(2, 24, 16, dtype=torch.int8), torch.ones(8, 16, dtype=torch.int8)
    paper.linear(codes, weight, None)
    paper.linear(codes.transpose(0, 1), weight.t().contiguous().t(), None)
    assert strides == [((16, 1), (1, 16))] * 2


def test_extreme_accumulators_are_exact() -> None:
    left = torch.full((1, 2**12), -128, dtype=torch.int8)
    weight = torch.full((3, 2**12), -128, dtype=torch.int8)
    bias = torch.tensor([2**31 - 1 - 2**26, 0, -(2**31) + 2**27], dtype=torch.int32)
    assert torch.equal(paper.linear(left, weight, bias).long()[0], bias.long() + 2**26)


def test_patch_embedding_is_the_convolution() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(-128, 128, (2, 3, 8, 8), generator=generator, dtype=torch.int8)
    weight = torch.randint(-128, 128, (5, 3, 4, 4), generator=generator, dtype=torch.int8)
    want = F.conv2d(image.double(), weight.double(), stride=4).permute(0, 2, 3, 1)
    assert torch.equal(paper.convolution(image, weight, None).double(), want)


@given(st.floats(0.01, 0.2), st.integers(0, 2**31))
def test_shiftmax_is_near_the_softmax(scale: float, seed: int) -> None:
    codes = torch.randint(-128, 128, (4, 50), generator=torch.Generator().manual_seed(seed))
    exact = (codes.double() * scale).softmax(-1)
    got = paper.shiftmax(codes, paper.unit(scale), 16) / 2**15
    assert (got - exact).abs().max() < 0.12
    assert got.sum(-1).max() <= 1


@given(st.floats(0.01, 0.1))
def test_shift_gelu_is_near_the_gelu(scale: float) -> None:
    codes = torch.arange(-128, 128)
    one = paper.unit(scale)
    got = paper.shift_gelu(codes[None], one, paper.gelu_shift(one))[0] * scale / 128
    assert (got - F.gelu(codes * scale)).abs().max() < 0.12 + 128 * scale / 128


def test_the_released_gelu_saturates_at_small_scales_and_ours_does_not() -> None:
    codes, scale = torch.arange(-128, 128), 0.001
    out, unit = release.shift_gelu(codes.float()[None], torch.tensor(scale))
    one = paper.unit(scale)
    ours = paper.shift_gelu(codes[None], one, paper.gelu_shift(one)) * scale / 128
    exact = F.gelu(codes * scale)
    assert (ours - exact).abs().max() < 0.002
    assert (out * unit - exact).abs().max() > 0.1


def test_integer_layernorm_is_near_layernorm_where_the_released_root_has_not_converged() -> None:
    codes = torch.randint(-8, 9, (64, 96), generator=torch.Generator().manual_seed(0))
    exact = F.layer_norm(codes.double(), (96,), eps=0.0)
    ours = paper.normalize(codes) * math.sqrt(96) / 2**24
    out, scale = release.layer_norm(codes.float(), torch.ones(96), torch.zeros(96))
    assert (ours - exact).abs().max() < 0.15
    assert (out * scale - exact).abs().max() > 2 * (ours - exact).abs().max()


@given(st.floats(2.0**-23, 4.0))
@settings(max_examples=50)
def test_ablation_operators_are_near_the_real_functions(scale: float) -> None:
    codes = torch.arange(-128, 128)[None]
    exact = (codes.double() * scale).softmax(-1)
    operator = ablations.SOFTMAX["polynomial"]
    got = operator.apply(codes, operator.constants(scale), 16) * operator.out_scale(scale, 16)
    if scale < 0.3:  # flooring ln2/S and b/S costs in proportion to S
        assert (got - exact).abs().max() < 0.005 + 0.3 * scale
    assert (got >= 0).all()
    log = ablations.SOFTMAX["log_int"].apply(codes, operator.constants(scale), 16)
    assert ((log & (log - 1) == 0) | (log == 2**15 - 1)).all(), "powers of two"
    gelu = ablations.GELU["polynomial"]
    value = gelu.apply(codes, gelu.constants(scale), 8) * gelu.out_scale(scale, 8)
    if 2.0**-20 < scale < 0.1:
        assert (value - F.gelu(codes * scale)).abs().max() < 0.03 + 3 * scale

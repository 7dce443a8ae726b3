"""Uniform quantizers: the properties of their maths, and the released code's numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import read

from vitq.methods.toolkit.observers import MinMax, PercentileMSE
from vitq.methods.toolkit.quantizers import UniformQuantizer

BITS = st.integers(2, 8)
SEEDS = st.integers(0, 10_000)


def fitted(x: torch.Tensor, bits: int, axis: int | None = None, observer: type = PercentileMSE) -> UniformQuantizer:
    quantizer = UniformQuantizer(bits, observer(axis), axis)
    quantizer.observe(x)
    quantizer.fit()
    quantizer.mode = "on"
    return quantizer


def sample(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * (1 + seed % 7) + seed % 3


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
@pytest.mark.parametrize(
    ("name", "key", "axis"), [("x_tensor", "x", None), ("x_channel", "x", -1), ("w_channel", "w", 0)]
)
def test_released_code_is_matched(bits: int, name: str, key: str, axis: int | None) -> None:
    vectors = read("repq_vit_quantizers.safetensors")[0]
    quantizer, codes = fitted(vectors[key], bits, axis), vectors[f"{name}_{bits}_codes"]
    torch.testing.assert_close(quantizer.scale.view(-1), vectors[f"{name}_{bits}_scale"], rtol=1e-6, atol=0)
    assert torch.equal(quantizer.zero_point.view(-1), vectors[f"{name}_{bits}_zero_point"])
    some = vectors[key][: len(codes)]
    assert torch.equal(quantizer.codes(some), codes.int())
    assert torch.equal(quantizer(some), quantizer.decode(codes.int()))


@given(SEEDS, BITS, st.sampled_from([None, 0, -1]))
@settings(deadline=None)
def test_codes_decode_to_fake_quant_and_stay_in_range(seed: int, bits: int, axis: int | None) -> None:
    x = sample(seed, 5, 11, 7)
    quantizer = fitted(x, bits, axis)
    codes = quantizer.codes(x * 3)
    low, high = quantizer.code_limits
    assert (low, high) == (0, 2**bits - 1)
    assert low <= codes.min()
    assert codes.max() <= high
    assert torch.equal(quantizer.decode(codes), quantizer(x * 3))


@given(SEEDS, BITS, st.floats(-20, 20))
@settings(deadline=None)
def test_a_fractional_zero_point_keeps_codes_and_values_in_step(seed: int, bits: int, zero: float) -> None:
    x = sample(seed, 400)
    quantizer = UniformQuantizer(bits, PercentileMSE())
    quantizer.set_grid(torch.tensor(0.31), torch.tensor(zero))
    quantizer.mode = "on"
    codes = quantizer.codes(x * 5)
    assert codes.min() >= 0
    assert codes.max() <= quantizer.code_limits[1] <= 2**bits
    assert torch.equal(quantizer.decode(codes), quantizer(x * 5))


@given(SEEDS, BITS)
@settings(deadline=None)
def test_idempotent_and_monotone(seed: int, bits: int) -> None:
    x = sample(seed, 300)
    quantizer = fitted(x, bits)
    once = quantizer(x)
    assert torch.equal(quantizer(once), once)
    assert (quantizer(x.sort().values).diff() >= 0).all()


@given(SEEDS, BITS)
@settings(deadline=None)
def test_error_inside_the_range_is_at_most_half_a_step(seed: int, bits: int) -> None:
    x = sample(seed, 300)
    quantizer = fitted(x, bits, observer=MinMax)
    step = quantizer.scale
    low, high = -quantizer.zero_point * step, (2**bits - 1 - quantizer.zero_point) * step
    inside = x[(x >= low) & (x <= high)]
    assert inside.numel() > 200
    assert ((quantizer(inside) - inside).abs() <= step / 2 * (1 + 1e-4)).all()


@given(SEEDS, BITS)
@settings(deadline=None)
def test_per_channel_is_per_tensor_row_by_row(seed: int, bits: int) -> None:
    x = sample(seed, 6, 130)
    whole = fitted(x, bits, axis=0)(x)
    assert torch.equal(whole, torch.stack([fitted(row, bits)(row) for row in x]))
    assert torch.equal(fitted(x.T, bits, axis=-1)(x.T), whole.T)


def test_the_gradient_passes_inside_the_range_only() -> None:
    quantizer = UniformQuantizer(4, PercentileMSE())
    quantizer.set_grid(torch.tensor(0.1), torch.tensor(8.0))
    quantizer.mode = "on"
    x = torch.tensor([-5.0, 0.03, 5.0], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([0, 1, 0])


def test_fake_quant_leaves_its_input_alone() -> None:
    x = sample(1, 50)
    before = x.clone()
    fitted(x, 4)(x)
    assert torch.equal(x, before)

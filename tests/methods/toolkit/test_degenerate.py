"""What pruned models have: constant tensors and channels, rows of zeros, magnitudes of any size, in every quantizer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitq.errors import MethodInputError
from vitq.methods.binary_vit.binarize import centred_rows, weight_sign
from vitq.methods.pmq.clipping import MSEClip
from vitq.methods.repq_vit.log_quantizers import LogQuantizer, Overflow
from vitq.methods.toolkit.nodes import ActivationMinMax, ActivationQuantizer, weight_quantizer
from vitq.methods.toolkit.observers import MinMax, PercentileMSE
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer

OBSERVERS = pytest.mark.parametrize("observer", [MinMax, PercentileMSE, MSEClip, ActivationMinMax])
BITS = st.integers(2, 8)
VALUES = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


def fitted(quantizer: Quantizer, x: Tensor) -> Quantizer:
    quantizer.observe(x)
    quantizer.fit()
    quantizer.mode = "on"
    return quantizer


def made(observer: type, bits: int, axis: int | None = None, channels: int = 1) -> UniformQuantizer:
    if observer is ActivationMinMax:
        return ActivationQuantizer(bits)
    return UniformQuantizer(bits, observer(axis), axis, channels=channels)


@OBSERVERS
@given(value=VALUES, bits=BITS, n=st.integers(1, 300))
@settings(deadline=None, max_examples=30)
def test_a_constant_tensor_is_represented_exactly_and_zero_stays_zero(
    observer: type, value: float, bits: int, n: int
) -> None:
    x = torch.full((n,), value)
    quantizer = fitted(made(observer, bits), x)
    torch.testing.assert_close(quantizer(x), x, rtol=1e-6, atol=1e-30)
    assert quantizer(torch.zeros(3)).tolist() == [0, 0, 0]
    codes = quantizer.codes(x)
    assert codes.min() >= 0
    assert codes.max() < 2**bits
    torch.testing.assert_close(quantizer.decode(codes), x, rtol=1e-6, atol=1e-30)
    assert torch.isfinite(quantizer(torch.tensor([-1e30, 1e30]))).all()


@pytest.mark.parametrize("observer", [MinMax, PercentileMSE, MSEClip])
@given(value=st.floats(-1e6, 1e6, width=32, allow_subnormal=False), bits=BITS, at=st.integers(0, 4))
@settings(deadline=None, max_examples=30)
def test_a_constant_channel_is_exact_and_disturbs_no_other(observer: type, value: float, bits: int, at: int) -> None:
    x = torch.randn(5, 400, generator=torch.Generator().manual_seed(at))
    alone = fitted(made(observer, bits, 0, 5), x)(x)
    pruned = x.clone()
    pruned[at] = value
    y = fitted(made(observer, bits, 0, 5), pruned)(pruned)
    torch.testing.assert_close(y[at], pruned[at], rtol=1e-6, atol=1e-30)
    others = [i for i in range(5) if i != at]
    assert torch.equal(y[others], alone[others])


@pytest.mark.parametrize("observer", [MinMax, PercentileMSE, MSEClip])
@given(exponent=st.integers(-28, 30), offset=st.floats(-50, 50), bits=BITS, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_any_magnitude_gives_finite_values_within_half_a_step(
    observer: type, exponent: int, offset: float, bits: int, seed: int
) -> None:
    x = (torch.randn(300, generator=torch.Generator().manual_seed(seed)) + offset) * 10.0**exponent
    quantizer = fitted(made(observer, bits), x)
    assert isinstance(quantizer, UniformQuantizer)
    y, step = quantizer(x), quantizer.scale
    assert torch.isfinite(y).all()
    low, high = -quantizer.zero_point * step, (2**bits - 1 - quantizer.zero_point) * step
    inside = (x >= low) & (x <= high)
    slack = 1e-5 * x.abs().max()
    assert ((y - x).abs()[inside] <= step / 2 + slack).all()
    assert ((y >= low - slack) & (y <= high + slack)).all()


@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    BITS,
)
@settings(deadline=None, max_examples=30)
def test_a_range_wider_than_float32_holds_gets_a_finite_grid(one: float, other: float, bits: int) -> None:
    quantizer = fitted(UniformQuantizer(bits, MinMax()), torch.tensor([one, other]))
    assert isinstance(quantizer, UniformQuantizer)
    assert torch.isfinite(quantizer.scale)
    assert quantizer.scale > 0
    assert torch.isfinite(quantizer.zero_point)


@given(value=VALUES, bits=BITS)
@settings(deadline=None, max_examples=30)
def test_a_weight_row_of_one_value_is_within_half_a_step(value: float, bits: int) -> None:
    x = torch.stack([torch.full((40,), value), torch.zeros(40), torch.linspace(-1, 1, 40)])
    quantizer = fitted(weight_quantizer(bits, 3), x)
    y, step = quantizer(x), quantizer.scale  # type: ignore[attr-defined]
    assert torch.isfinite(y).all()
    assert not y[1].any()
    assert ((y - x).abs() <= step[:, None] / 2 + 1e-6 * x.abs()).all()


def test_a_mostly_constant_row_keeps_its_few_other_values() -> None:
    """99.95 % zeros: the released search's 0.999 has no range and its NaN is passed over; so here."""
    x = torch.zeros(2, 200_000)
    x[0, :100] = torch.linspace(1, 2, 100)
    x[1, 0] = 3.0  # rarer than every quantile sees
    y = fitted(made(PercentileMSE, 4, 0, 2), x)(x)
    assert (y[0, :100] - x[0, :100]).abs().max() <= 2 / 15
    assert not y[0, 100:].any()
    assert y[1, 0] == pytest.approx(3.0)
    assert not y[1, 1:].any()


@OBSERVERS
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(observer: type, bad: float) -> None:
    with pytest.raises(MethodInputError, match="NaN or infinity"):
        fitted(made(observer, 4), torch.tensor([1.0, bad, 2.0]))


@pytest.mark.parametrize("overflow", ["zero", "clip"])
@pytest.mark.parametrize("steps", [1, 2])
@given(share=st.floats(0, 0.9999), value=st.floats(1e-6, 1), bits=BITS)
@settings(deadline=None, max_examples=30)
def test_attention_of_one_value_beside_zeros_is_held(
    overflow: Overflow, steps: int, share: float, value: float, bits: int
) -> None:
    n = 40_000
    x = torch.full((n,), value)
    x[: int(share * n)] = 0
    y = fitted(LogQuantizer(bits, steps, overflow), x)(x)
    assert torch.isfinite(y).all()
    assert ((y >= 0) & (y <= value * (1 + 1e-6))).all()
    if overflow == "zero" or share == 0:  # a clipped zero costs the search more than a clipped value may
        torch.testing.assert_close(y[x > 0], x[x > 0], rtol=1e-6, atol=0)
        assert not y[x == 0].any()


@given(st.floats(-10, 10, width=32, allow_subnormal=False), st.floats(0, 2))
@settings(deadline=None, max_examples=30)
def test_binary_rows_of_one_value_keep_their_sign_and_give_no_nan(value: float, pull: float) -> None:
    weight = torch.stack([torch.full((33,), value), torch.zeros(33), torch.linspace(-1, 1.5, 33)]).requires_grad_()
    scale = weight.detach().abs().mean(1, keepdim=True)
    signs = weight_sign(weight, scale, pull)
    torch.testing.assert_close((signs * scale)[0], weight[0].detach(), rtol=1e-5, atol=0)
    assert not (signs * scale)[1].detach().any()
    ((signs * scale) ** 2).sum().backward()
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()
    plain = weight.detach()[2:]
    assert torch.equal(centred_rows(plain), plain - plain.mean(1, keepdim=True))

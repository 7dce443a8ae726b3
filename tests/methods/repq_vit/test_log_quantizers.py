"""Log quantizers: the released code's numbers, the bit-shift form, both overflows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import read

from vitq.errors import MethodInputError
from vitq.methods.repq_vit.log_quantizers import LogQuantizer, Overflow


def attention(seed: int) -> torch.Tensor:
    return (torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(seed)) * 4).softmax(-1)


def fitted(x: torch.Tensor, bits: int, steps: int = 2, overflow: Overflow = "zero") -> LogQuantizer:
    quantizer = LogQuantizer(bits, steps, overflow)
    quantizer.observe(x)
    quantizer.fit()
    quantizer.mode = "on"
    return quantizer


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_released_code_is_matched(bits: int) -> None:
    vectors = read("repq_vit_quantizers.safetensors")[0]
    quantizer, expected = fitted(vectors["attn"], bits), vectors[f"attn_{bits}_dequantized"]
    torch.testing.assert_close(quantizer.scale.view(1), vectors[f"attn_{bits}_scale"], rtol=1e-6, atol=0)
    torch.testing.assert_close(quantizer(vectors["attn"][: len(expected)]), expected, rtol=0, atol=1e-5)


@given(st.integers(0, 1000), st.integers(2, 8), st.sampled_from([1, 2]), st.sampled_from(["zero", "clip"]))
@settings(deadline=None)
def test_codes_decode_to_fake_quant(seed: int, bits: int, steps: int, overflow: Overflow) -> None:
    x = attention(seed)
    x[0, 0, 0, 0] = 0.0
    quantizer = fitted(x, bits, steps, overflow)
    codes = quantizer.codes(x)
    assert codes.min() >= 0
    assert codes.max() <= quantizer.code_limits[1] == 2**bits - (overflow == "clip")
    y = quantizer(x)
    assert torch.equal(quantizer.decode(codes), y)
    if bits < 8:  # the last log2 code of 8 bits, 2^-255, is below float32
        assert (y[0, 0, 0, 0] > 0) == (overflow == "clip")
    assert (quantizer(x.flatten().sort().values).diff() >= 0).all()
    assert torch.equal(quantizer(y), y)


def test_the_bit_shift_form_is_the_same_value() -> None:
    quantizer = LogQuantizer(4, overflow="clip")
    quantizer.scale = torch.tensor(0.7)
    codes = torch.arange(16)
    shifted = [0.7 * (math.sqrt(2) if c % 2 else 1) * 2.0 ** math.floor(-c / 2) for c in range(16)]
    torch.testing.assert_close(quantizer.decode(codes), torch.tensor(shifted), rtol=1e-6, atol=0)


def test_seventeen_values_at_four_bits() -> None:
    x = torch.logspace(-6, 0, 5000)
    quantizer = LogQuantizer(4)
    quantizer.restore_state({"scale": torch.ones(())})
    values = quantizer(x).unique()
    assert len(values) == 17
    assert values[0] == 0
    assert quantizer(torch.tensor(2**-7.76)) == 0
    assert quantizer(torch.tensor(2**-7.74)) > 0


def test_attention_without_a_value_is_refused() -> None:
    with pytest.raises(MethodInputError, match="zeros"):
        fitted(torch.zeros(4, 4), 4)

"""Codes at their own width: what is packed comes back, takes the bytes it should, and nothing else is packed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitq.errors import MethodInputError
from vitq.methods.toolkit import bit_packing


@given(st.data(), st.integers(1, 17), st.booleans(), st.integers(0, 67))
def test_every_width_and_length_comes_back(data: st.DataObject, bits: int, signed: bool, n: int) -> None:
    low, high = bit_packing.code_range(bits, signed)
    codes = torch.tensor(data.draw(st.lists(st.integers(low, high), min_size=n, max_size=n)), dtype=torch.int32)
    packed = bit_packing.pack(codes, bits, signed)
    assert packed.dtype == torch.uint8
    assert packed.numel() == bit_packing.packed_bytes(n, bits) == -(-n * bits // 8)
    assert bit_packing.unpack(packed, n, bits, signed).tolist() == codes.tolist()


def test_the_bytes_are_those_of_the_format() -> None:
    assert bit_packing.pack(torch.tensor([1, 2, 3]), 4, False).tolist() == [0x21, 0x03]
    assert bit_packing.pack(torch.tensor([-1, 0, 1]), 2, True).tolist() == [0b01_00_11]
    assert bit_packing.pack(torch.tensor([1, 0, 0, 0, 0, 0, 0, 0, 1]), 1, False).tolist() == [1, 1]
    assert bit_packing.pack(torch.tensor([-2]), 16, True).tolist() == [0xFE, 0xFF]


@pytest.mark.parametrize("bits", [1, 3, 8, 11])
def test_more_codes_than_are_packed_at_a_time(bits: int) -> None:
    n = bit_packing._CHUNK + 5
    codes = torch.randint(2**bits, (n,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(bit_packing.unpack(bit_packing.pack(codes, bits, False), n, bits, False), codes.int())


@pytest.mark.parametrize(
    ("codes", "bits", "signed"), [([16], 4, False), ([-1], 4, False), ([8], 4, True), ([-9], 4, True), ([2], 1, False)]
)
def test_codes_outside_their_width_are_refused(codes: list[int], bits: int, signed: bool) -> None:
    with pytest.raises(MethodInputError, match="outside"):
        bit_packing.pack(torch.tensor(codes), bits, signed)


def test_no_width_no_integers_and_no_bytes_are_refused() -> None:
    for bits in (0, 18, -1):
        with pytest.raises(MethodInputError, match="cannot be packed"):
            bit_packing.pack(torch.tensor([0]), bits, False)
    with pytest.raises(MethodInputError, match="codes are integers"):
        bit_packing.pack(torch.tensor([0.5]), 4, False)
    with pytest.raises(MethodInputError, match="take 2 bytes, not 1"):
        bit_packing.unpack(torch.zeros(1, dtype=torch.uint8), 3, 4, False)

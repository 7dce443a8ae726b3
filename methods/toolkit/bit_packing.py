"""Integer codes packed at their own width: without gaps, the lowest bit first, padded at the end to whole bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitq.errors import MethodInputError

MAX_BITS = 17
"""16, and one bit more where a zero point that is no integer gives a grid one more code."""
_CHUNK = 1 << 20
"""Codes worked on at a time, a multiple of 8, so that every chunk ends at a whole byte."""


def packed_bytes(numel: int, bits: int) -> int:
    """Bytes that `numel` codes of `bits` bits take."""
    return -(-numel * bits // 8)


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest code of a width; MethodInputError for a width outside 1..17."""
    if not 1 <= bits <= MAX_BITS:
        raise MethodInputError(f"codes of {bits} bits cannot be packed: a width lies in 1..{MAX_BITS}")
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def pack(codes: Tensor, bits: int, signed: bool) -> Tensor:
    """Integer codes of any shape to uint8 [packed_bytes], two's complement where `signed`, row-major order.

    Raises MethodInputError for a code outside the width: it would come back as another one.
    """
    low, high = code_range(bits, signed)
    flat = codes.detach().reshape(-1).cpu().numpy()
    if flat.dtype.kind not in "iu":
        raise MethodInputError(f"codes are integers, these are {codes.dtype}")
    if flat.size and (int(flat.min()) < low or int(flat.max()) > high):
        raise MethodInputError(f"codes run from {flat.min()} to {flat.max()}, outside {low}..{high} of {bits} bits")
    parts = [_pack_chunk(flat[i : i + _CHUNK], bits) for i in range(0, flat.size, _CHUNK)]
    return torch.from_numpy(np.concatenate(parts) if parts else np.empty(0, np.uint8))


def _pack_chunk(codes: NDArray[Any], bits: int) -> NDArray[Any]:
    words = codes.astype(np.int32)
    planes = np.empty((words.size, bits), np.uint8)
    for bit in range(bits):
        planes[:, bit] = (words >> bit) & 1
    return np.packbits(planes.reshape(-1), bitorder="little")


def unpack(packed: Tensor, numel: int, bits: int, signed: bool) -> Tensor:
    """uint8 [packed_bytes] back to int32 codes [numel]; MethodInputError where the number of bytes is another one."""
    code_range(bits, signed)
    size = packed_bytes(numel, bits)
    if packed.numel() != size:
        raise MethodInputError(f"{numel} codes of {bits} bits take {size} bytes, not {packed.numel()}")
    words, found = packed.numpy(), np.empty(numel, np.int32)
    for i in range(0, numel, _CHUNK):
        part = found[i : i + _CHUNK]
        start = i // 8 * bits
        _unpack_chunk(words[start : start + packed_bytes(part.size, bits)], bits, signed, part)
    return torch.from_numpy(found)


def _unpack_chunk(words: NDArray[Any], bits: int, signed: bool, into: NDArray[Any]) -> None:
    planes = np.unpackbits(words, count=into.size * bits, bitorder="little").reshape(into.size, bits)
    into[:] = 0
    for bit in range(bits):
        into |= planes[:, bit].astype(np.int32) << bit
    if signed:
        into -= (into >> (bits - 1)) << bits

"""Element-wise work in pieces that stay in the cache, and the memory that its results take.

A chain of operations over a large tensor reads and writes main memory once an operation; piece by piece it does so once
a chain. Its result is new memory, which the system must first map and clear: where a layer is done with the result when
it returns, the same memory serves again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

Work = Callable[[Tensor, "Tensor | None"], Tensor]
"""(x, where the result is to lie, or None for new memory) -> the result; an `out=` of its first operation."""
_PIECE = 2**16
"""Elements a thread works on at a time: 256 KiB read and 256 KiB written."""
_MOST = 2**24
"""Elements above which memory is not kept: 64 MiB."""


def in_memory_order(x: Tensor) -> Tensor | None:
    """View x as [n] in the order of its memory; None where its elements lie apart or on each other."""
    if x.is_contiguous():
        return x.view(-1)
    if 1 in x.shape:  # the stride of such a dimension says nothing
        return None
    y = x.permute(sorted(range(x.ndim), key=x.stride, reverse=True))
    return y.view(-1) if y.is_contiguous() else None


def in_pieces(x: Tensor, work: Work, out: Tensor | None = None) -> Tensor:
    """The result of an element-wise `work` on x, piece by piece where x is large; in `out`, which has x's strides.

    Without `out` it is new memory, with the strides that the first operation gives it.
    """
    size = max(2, torch.get_num_threads()) * _PIECE
    source = in_memory_order(x) if _runs_here(x) and x.numel() > size else None
    if source is None:
        return work(x, out)
    out = torch.empty_like(x) if out is None else out
    target = in_memory_order(out)
    assert target is not None
    for piece, result in zip(torch.split(source, size), torch.split(target, size), strict=True):
        work(piece, result)
    return out


def _runs_here(x: Tensor) -> bool:
    """Whether x is a tensor on the CPU that is computed with now, and not only traced."""
    if type(x) is not Tensor or x.device.type != "cpu":
        return False
    return not torch.compiler.is_compiling() and not torch._C._get_tracing_state()


class _Kept(threading.local):
    def __init__(self) -> None:
        self.memory: dict[tuple[int, torch.dtype], Tensor] = {}


_kept = _Kept()


def scratch(x: Tensor, slot: int = 0) -> Tensor | None:
    """Memory of x's shape, strides and type on the CPU, for what is used up before this thread asks again for `slot`.

    None where x has gaps, is small enough for new memory to cost nothing, is too large to be kept, or is only traced.
    """
    if not _runs_here(x) or not _PIECE <= x.numel() <= _MOST or in_memory_order(x) is None:
        return None
    key = slot, x.dtype
    held = _kept.memory.get(key)
    if held is None or held.numel() < x.numel():
        with torch.inference_mode(False):  # what is made in inference mode could not be written outside of it
            held = _kept.memory[key] = torch.empty(x.numel(), dtype=x.dtype)
    memory = held[: x.numel()]
    return memory.view(x.shape) if x.is_contiguous() else memory.as_strided(x.shape, x.stride())

"""What may reach a machine's peaks: the libraries and kernels that are tried, each checked before it is timed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from vitq.errors import UnsupportedError
from vitq.peaks import What

Call = Callable[[], Any]
CACHE = Path("/sys/devices/system/cpu/cpu0/cache")
UNKNOWN_CACHE = 64 * 2**20
"""Bytes that the last cache is taken to have where the system does not tell."""
CHECKED_ROWS = 7


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is computed: a square product, the kernels' product [rows, inputs, outputs], bytes of an array."""

    square: int
    rows: int
    inputs: int
    outputs: int
    array: int


@dataclass(frozen=True)
class Candidate:
    """One way to reach a rate: `work` is what a call does, in MACs or bytes; `prepared` gives the call.

    `prepared` raises UnsupportedError where it cannot be had here, or gives wrong numbers.
    """

    what: What
    by: str
    size: str
    work: float
    prepared: Callable[[], Call]


def sizes_for(device: torch.device) -> Sizes:
    """Large enough for the device: products that take milliseconds, arrays that are 4 times the last cache or more."""
    if device.type == "cuda":
        cache = int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", UNKNOWN_CACHE))
        return Sizes(8192, 0, 0, 0, max(2**30, 4 * cache))
    return Sizes(2048, 1632, 768, 3072, max(2**27, 4 * last_cache()))


def last_cache() -> int:
    """Bytes of the largest cache of the first CPU, as Linux tells them."""
    found = [0]
    for file in CACHE.glob("index*/size"):
        with suppress(OSError, ValueError):
            word = file.read_text().strip()
            found.append(int(word.rstrip("KM")) * {"K": 2**10, "M": 2**20}.get(word[-1:], 1))
    return max(found) or UNKNOWN_CACHE


def candidates(device: torch.device, threads: int, sizes: Sizes | None = None) -> list[Candidate]:
    """Everything that is tried on a device."""
    s = sizes or sizes_for(device)
    cube, square = float(s.square) ** 3, f"{s.square}x{s.square}x{s.square}"
    arrays = f"arrays of {s.array / 1e6:.0f} MB"
    found = [
        Candidate("fp32", "torch.mm", square, cube, lambda: _floats(device, s.square, torch.float32)),
        Candidate("bf16", "torch.mm", square, cube, lambda: _floats(device, s.square, torch.bfloat16)),
        Candidate("int8", "torch._int_mm", square, cube, lambda: _int8(device, s.square)),
        Candidate("copy", "torch copy_", arrays, 2.0 * s.array, lambda: _copy(device, s.array)),
        Candidate("read", "torch sum", arrays, 1.0 * s.array, lambda: _read(device, s.array)),
    ]
    return found + (_on_cpu(s, threads) if device.type == "cpu" else [])


def _on_cpu(s: Sizes, threads: int) -> list[Candidate]:
    cube, square = float(s.square) ** 3, f"{s.square}x{s.square}x{s.square}"
    arrays, macs = f"arrays of {s.array / 1e6:.0f} MB", float(s.rows * s.inputs * s.outputs)
    shape, product = f"{s.rows}x{s.inputs}x{s.outputs}", (s.rows, s.inputs, s.outputs, threads)
    return [
        Candidate("fp32", "openvino MatMul", square, cube, lambda: _openvino(s.square, threads)),
        Candidate("int8", "numba VNNI tile", shape, macs, lambda: _numba("int8_tile", 0, *product)),
        Candidate("binary", "numba xor and popcount", shape, macs, lambda: _numba("binary_linear", 0, *product)),
        Candidate("copy", "numba loop", arrays, 2.0 * s.array, lambda: _numba("copy_loop", s.array, s.array // 8, threads)),  # noqa: E501
        Candidate("read", "numba loop", arrays, 1.0 * s.array, lambda: _numba("read_loop", s.array, s.array // 8, threads)),  # noqa: E501
    ]  # fmt: skip


def _random(device: torch.device, n: int, kind: torch.dtype) -> Tensor:
    """A square matrix; INT8 over the whole range."""
    generator = torch.Generator().manual_seed(0)
    if kind == torch.int8:
        return torch.randint(-128, 128, (n, n), generator=generator, dtype=kind).to(device)
    return torch.randn(n, n, generator=generator).to(device, kind)


def _floats(device: torch.device, n: int, kind: torch.dtype) -> Call:
    a, b = _random(device, n, kind), _random(device, n, kind)
    out = torch.empty(n, n, dtype=kind, device=device)
    torch.mm(a, b, out=out)
    wanted = a[:CHECKED_ROWS].double().cpu() @ b.double().cpu()
    _close(out[:CHECKED_ROWS].double().cpu(), wanted, 1e-4 if kind == torch.float32 else 2e-2)
    return lambda: torch.mm(a, b, out=out)


def _int8(device: torch.device, n: int) -> Call:
    """The right factor is stored by columns, as a linear layer's weights are."""
    a, b = _random(device, n, torch.int8), _random(device, n, torch.int8).t()
    try:
        got = torch._int_mm(a, b)
    except (RuntimeError, NotImplementedError) as error:
        raise UnsupportedError(f"torch._int_mm fails here: {str(error).splitlines()[0]}") from None
    _close(got[:CHECKED_ROWS].double().cpu(), a[:CHECKED_ROWS].double().cpu() @ b.double().cpu(), 0.0)
    return lambda: torch._int_mm(a, b)


def _copy(device: torch.device, size: int) -> Call:
    _room(device, 2 * size)
    source = torch.ones(size // 4, device=device)
    target = torch.zeros_like(source)
    target.copy_(source)
    _close(target, source, 0.0)
    return lambda: target.copy_(source)


def _read(device: torch.device, size: int) -> Call:
    _room(device, size)
    source = torch.ones(size // 4, device=device)
    _close(source.sum(), torch.full((), size // 4, device=device), 1e-3)
    return lambda: source.sum()


def _room(device: torch.device, size: int) -> None:
    """UnsupportedError where arrays of so many bytes would take more than half of the memory that is free."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if 2 * size > free:
        raise UnsupportedError(f"arrays of {size / 1e6:.0f} MB do not fit into the memory that is free")


def _openvino(n: int, threads: int) -> Call:
    if not importlib.util.find_spec("openvino"):
        raise UnsupportedError("openvino is not installed: pip install openvino")
    import openvino
    from openvino import opset13 as ops

    a, b = (_random(torch.device("cpu"), n, torch.float32).numpy() for _ in range(2))
    left = ops.parameter([n, n], np.float32)
    model = openvino.Model([ops.matmul(left, ops.constant(b), False, True)], [left], "product")
    how = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(model, "CPU", how).create_infer_request()
    request.infer([a], share_inputs=True)
    got = torch.from_numpy(request.get_output_tensor(0).data[:CHECKED_ROWS]).double()
    _close(got, torch.from_numpy(a[:CHECKED_ROWS]).double() @ torch.from_numpy(b).double().T, 1e-4)
    return lambda: request.infer([a], share_inputs=True)


def _numba(kernel: str, array: int, *arguments: int) -> Call:
    if not importlib.util.find_spec("numba"):
        raise UnsupportedError("numba is not installed: pip install numba")
    from vitq.benchmarks.measure import peak_kernels

    _room(torch.device("cpu"), 2 * array)
    call: Call = getattr(peak_kernels, kernel)(*arguments)
    return call


def _close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    """UnsupportedError where a product is farther off than `tolerance` of its largest number."""
    if not float((got - wanted).abs().max()) <= tolerance * float(wanted.abs().max()):
        raise UnsupportedError("its numbers are wrong, so that it is not timed")

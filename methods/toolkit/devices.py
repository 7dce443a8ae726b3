"""The device a cell computes on: FP32 that is FP32, the same bits twice, a queue waited for, a peak of its own.

Everything here takes the device and never asks for the current one, so that `cuda:1` means the second GPU everywhere.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

Device = torch.device | str

_OVERRIDES = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS may add up in another order at each call
    "NVIDIA_TF32_OVERRIDE": "0",  # asked by NVIDIA's libraries, whatever torch says
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",  # asked by oneDNN, which may else compute float32 in bfloat16
    "DNNL_DEFAULT_FPMATH_MODE": "STRICT",  # its name in older versions
}
_PRECISIONS = (
    "cuda.matmul", "cudnn", "cudnn.conv", "cudnn.rnn", "mkldnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn",
)  # fmt: skip
"""Parts of `torch.backends` that have an `fp32_precision` of their own from torch 2.9 on."""
_ATTENTION = ("flash", "mem_efficient", "cudnn", "math")


def make_deterministic() -> None:
    """Compute float32 in float32 and repeatably, in this process, from now on; to be called before any operation.

    TF32 and bfloat16 are off for matrix products and convolutions of cuBLAS, cuDNN and oneDNN, cuDNN neither searches
    for the fastest kernel nor takes one that adds up in any order. An operation that has no repeatable form warns and
    runs: it is named in the record instead of ending the cell.
    """
    os.environ.update(_OVERRIDES)
    _ieee()
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else every empty tensor is filled first: no result here depends on one, and every timing would pay for it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def deterministic() -> Iterator[None]:
    """`make_deterministic` for a while: what was in force before is in force again afterwards."""
    environment = {name: os.environ.get(name) for name in _OVERRIDES}
    matmul, precisions = _matmul_precision(), {part: _precision(part) for part in ("", *_PRECISIONS)}
    cudnn, older = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic), _cudnn_tf32()
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    make_deterministic()
    try:
        yield
    finally:
        for name, word in environment.items():
            os.environ.pop(name, None) if word is None else os.environ.update({name: word})
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        for part, precision in precisions.items():
            _set_precision(part, precision)
        if older is not None:  # a flag of its own, which torch holds against the newer ones
            torch.backends.cudnn.allow_tf32 = older
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def settings() -> dict[str, str]:
    """What is in force in this process, read back from torch and the environment: the same keys on every device.

    Keys are torch's own names; what a version of torch does not have is left out. Reading them starts no GPU.
    """
    said = {f"{part}.fp32_precision": _precision(part) for part in _PRECISIONS}
    found = {name: word for name, word in said.items() if word is not None}
    found |= {
        "cudnn.deterministic": _word(torch.backends.cudnn.deterministic),
        "cudnn.benchmark": _word(torch.backends.cudnn.benchmark),
        "deterministic_algorithms": _algorithms(),
        "attention": ", ".join(name for name in _ATTENTION if getattr(torch.backends.cuda, f"{name}_sdp_enabled")()),
    }
    return found | {name: os.environ.get(name, "") for name in _OVERRIDES}


def use(device: Device) -> None:
    """Make a GPU the current one, for what allocates or launches without being told where; the CPU needs nothing."""
    where = torch.device(device)
    if where.type == "cuda" and where.index is not None:
        torch.cuda.set_device(where)


def synchronize(device: Device) -> None:
    """Wait until all that was queued on `device` is done; on the CPU everything is."""
    where = torch.device(device)
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def clock(device: Device) -> float:
    """Seconds of a monotonic clock, read when the device has done all it was told: for timing phases."""
    synchronize(device)
    return time.perf_counter()


def reset_peak(device: Device) -> None:
    """Forget a GPU's peak, so that the next one read is of what comes now.

    A process's peak of resident memory cannot be reset: a cell on the CPU has its process to itself.
    """
    where = torch.device(device)
    if where.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch refuses to reset what has not started
        torch.cuda.reset_peak_memory_stats(where)


def peak_memory_mb(device: Device) -> float:
    """Peak in MB (10^6 bytes): of this process's tensors on that very GPU, or of its resident memory on the CPU."""
    where = torch.device(device)
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated(where) / 1e6
    return _resident_peak() / 1e6


def _resident_peak() -> int:
    """Bytes of this process's peak of resident memory."""
    try:
        import resource
    except ImportError:  # Windows, which keeps the peak itself
        import psutil

        memory: Any = psutil.Process().memory_info()  # its stubs know Linux alone
        return int(memory.peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kibibytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def mixed_precision(device: Device) -> torch.dtype | None:
    """The type for mixed precision: bfloat16 from compute capability 8.0 on, float16 on older GPUs, none on the CPU.

    `torch.cuda.is_bf16_supported` is not asked: it counts emulation, which is slower than float32 on Volta and Turing.
    """
    where = torch.device(device)
    if where.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(where) >= (8, 0) else torch.float16


def _ieee() -> None:
    """Float32 by every name that torch has had for it; the older ones first, as torch refuses to mix the other way."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    for holder in (torch.backends, *map(_backend, _PRECISIONS)):
        if hasattr(holder, "fp32_precision"):
            holder.fp32_precision = "ieee"


def _backend(part: str) -> Any:
    holder: Any = torch.backends
    for name in filter(None, part.split(".")):
        holder = getattr(holder, name, None)
    return holder


def _precision(part: str) -> str | None:
    """`ieee`, `tf32`, `bf16` or `none` (the library's choice); torch before 2.9 has TF32 on or off for two parts."""
    backend = _backend(part)
    if hasattr(backend, "fp32_precision"):
        return str(backend.fp32_precision)
    return ("tf32" if backend.allow_tf32 else "ieee") if hasattr(backend, "allow_tf32") else None


def _matmul_precision() -> str | None:
    """By its older name; None where torch refuses to say, since parts were set by the newer ones."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _cudnn_tf32() -> bool | None:
    """Whether cuDNN may use TF32, by its older name; None where torch refuses to say, as above."""
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return None


def _set_precision(part: str, word: str | None) -> None:
    """Put back what `_precision` said of a part."""
    backend = _backend(part)
    if word is not None and hasattr(backend, "fp32_precision"):
        backend.fp32_precision = word
    elif word is not None and hasattr(backend, "allow_tf32"):
        backend.allow_tf32 = word == "tf32"


def _algorithms() -> str:
    if not torch.are_deterministic_algorithms_enabled():
        return "off"
    return "on, warn only" if torch.is_deterministic_algorithms_warn_only_enabled() else "on"


def _word(on: bool) -> str:
    return "on" if on else "off"

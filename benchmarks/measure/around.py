"""What the machine does around a session of timing: other work, clock, and the cores that the process is held to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from vitq.benchmarks.run.provenance import cpu_flags
from vitq.record import LatencyAround

SETS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_vbmi", "avx512_vpopcntdq", "amx_int8", "asimd",
        "asimddp", "sve")  # fmt: skip
"""Instruction sets that integer and binary kernels are chosen by, as Linux names them."""
OTHERS_CORES = 0.2
"""From how many cores of other work on, beside ours, times count as disturbed."""


@dataclass
class Session:
    """A session that is under way; `found` is what was seen, once it has ended."""

    found: LatencyAround = field(default_factory=LatencyAround)


@contextmanager
def watched(threads: int) -> Iterator[Session]:
    """Within, the process is held to as many cores as threads; what the machine did meanwhile is in `found`."""
    session, process = Session(), psutil.Process()
    load, mhz = _load(), _mhz()
    switches, begun, busy, own = _switches(process), time.monotonic(), _busy(), _own(process)
    with held_to(threads) as affinity:
        try:
            yield session
        finally:
            seconds = max(time.monotonic() - begun, 1e-3)
            others = max(0.0, (_busy() - busy - (_own(process) - own)) / seconds)
            session.found = LatencyAround(
                load_before=load, other_cores=round(others, 3), switches=_switches(process) - switches,
                mhz_before=mhz, mhz_after=_mhz(), affinity=affinity, instruction_sets=instruction_sets(),
                disturbed=others > OTHERS_CORES,
            )  # fmt: skip


def _switches(process: psutil.Process) -> int:
    return int(process.num_ctx_switches().involuntary)


def _own(process: psutil.Process) -> float:
    """Seconds of cores that this process took."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _busy() -> float:
    """Seconds of cores that the machine took for anything, those that a hypervisor gave to others among them."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


@contextmanager
def held_to(threads: int) -> Iterator[list[int] | None]:
    """Within, all threads of the process run on the first cores alone, one a thread; None where that cannot be had."""
    if not hasattr(os, "sched_getaffinity"):
        yield None
        return
    allowed = sorted(os.sched_getaffinity(0))
    chosen = allowed[:threads]
    _hold(_threads(), chosen)
    try:
        yield sorted(os.sched_getaffinity(0))
    finally:
        _hold(_threads(), allowed)


def _threads() -> list[int]:
    """Every thread of this process by its number; 0, the calling one, where the system does not tell."""
    with suppress(OSError):
        return [int(path.name) for path in Path("/proc/self/task").iterdir()]
    return [0]


def _hold(threads: Iterable[int], cores: Iterable[int]) -> None:
    for thread in threads:
        with suppress(OSError):  # one that has ended since
            os.sched_setaffinity(thread, cores)


def instruction_sets() -> list[str]:
    """Of `SETS`, what this CPU has, as far as the system says."""
    has = set(cpu_flags().split())
    return [name for name in SETS if name in has]


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _mhz() -> float | None:
    with suppress(OSError, NotImplementedError, AttributeError):
        found = psutil.cpu_freq()
        return float(found.current) if found and found.current else None
    return None

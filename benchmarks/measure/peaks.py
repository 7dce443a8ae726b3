"""The peaks of this machine, measured: what its products and its memory reach with so many threads."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from vitq.benchmarks.measure.around import instruction_sets, watched
from vitq.benchmarks.measure.peak_candidates import Candidate, Sizes, candidates
from vitq.benchmarks.measure.timing import once, warm_up
from vitq.benchmarks.run.provenance import cpu_name, gpu_name, machine_id, package_versions
from vitq.errors import UnsupportedError
from vitq.peaks import Peaks, Rate

SECONDS = 1.5
"""For each rate, warm-up apart."""
FEWEST, MOST = 7, 500


@dataclass(frozen=True)
class Effort:
    """How long each rate is measured: so many seconds, but rounds within bounds."""

    seconds: float = SECONDS
    fewest: int = FEWEST
    most: int = MOST


def measure(threads: int, device: str, sizes: Sizes | None = None, effort: Effort | None = None) -> Peaks:
    """Every rate that can be measured on `device`; a candidate that is not here, or wrong, is named with the reason.

    Each is warmed up until steady, then timed in rounds of its own. Torch, numba and OpenVINO are held to `threads`.
    UnsupportedError where nothing could be measured.
    """
    where = torch.device(device)
    rates, left_out = [], {}
    with watched(threads) as session, _threads(threads), torch.inference_mode():
        for each in candidates(where, threads, sizes):
            try:
                rates.append(_rate(each, each.prepared(), where, effort or Effort()))
            except UnsupportedError as error:
                left_out[f"{each.what} by {each.by}"] = " ".join(str(error).split())
    if not rates:
        raise UnsupportedError(f"no rate could be measured on {device}: {next(iter(left_out.values()))}")
    return Peaks(
        machine=machine_id(), cpu=cpu_name(), gpu=_gpu(where), instruction_sets=instruction_sets(), device=str(where),
        threads=threads, rates=rates, left_out=left_out, around=session.found, packages=package_versions(),
    )  # fmt: skip


def _gpu(device: torch.device) -> str | None:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else gpu_name()


def _rate(candidate: Candidate, call: Callable[[], Any], device: torch.device, effort: Effort) -> Rate:
    """Median and quartiles of work over time, round by round."""

    def run(_: Any) -> Any:
        return call()

    warm_up({candidate.by: run}, None, device, 1, 12)
    speeds: list[float] = []
    begun = time.perf_counter()
    while len(speeds) < effort.most and (
        len(speeds) < effort.fewest or time.perf_counter() - begun < effort.seconds
    ):  # fmt: skip
        speeds.append(candidate.work / (once(run, None, device) / 1e3))
    lower, median, upper = statistics.quantiles(speeds, n=4) if len(speeds) > 1 else speeds * 3
    return Rate(
        what=candidate.what, by=candidate.by, size=candidate.size, median=median, lower=lower, upper=upper,
        rounds=len(speeds),
    )  # fmt: skip


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    """Torch's threads set, and FP32 products in FP32 (no TF32); both as before afterwards."""
    before, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_float32_matmul_precision(precision)

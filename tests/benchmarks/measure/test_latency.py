"""Latency: the order of the calls, what is restored, and what a row says. Nothing here asserts a duration."""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitq.benchmarks.measure import timing
from vitq.benchmarks.measure.around import watched
from vitq.benchmarks.measure.timing import time_in_turn

EXAMPLE = torch.zeros(2, 3)


def recorder(calls: list[str], name: str) -> timing.Form:
    return lambda _: calls.append(name)


def test_forms_run_in_turn_after_the_warm_up_and_take_turns_to_start() -> None:
    calls: list[str] = []
    forms = {name: recorder(calls, name) for name in ("fp32", "fake-quant", "int8-kernel:torch")}
    time_in_turn(forms, EXAMPLE, batch=2, runs=4, warmup=2, more=0)
    warm, timed = calls[:6], calls[-12:]
    assert warm == 2 * list(forms)
    rounds = [timed[i : i + 3] for i in range(0, 12, 3)]
    assert all(set(r) == set(forms) for r in rounds)
    assert [r[0] for r in rounds] == ["fp32", "fake-quant", "int8-kernel:torch", "fp32"]


def test_a_row_holds_all_samples_their_median_and_p90() -> None:
    forms = {"fp32": nn.Linear(3, 3), "fake-quant": nn.Linear(3, 3)}
    rows = time_in_turn(forms, EXAMPLE, batch=2, runs=7, warmup=0, threads=1)
    assert [row.exec for row in rows] == ["fp32", "fake-quant"]
    for row in rows:
        assert (row.batch, row.threads, row.device) == (2, 1, "cpu")
        assert len(row.samples_ms) == 7
        assert all(sample > 0 for sample in row.samples_ms)
        assert row.median_ms == statistics.median(row.samples_ms)
        assert row.p90_ms == pytest.approx(np.percentile(row.samples_ms, 90))
        assert row.median_ms <= row.p90_ms <= max(row.samples_ms)


def test_forms_run_without_gradients_on_the_threads_asked_for_and_both_are_restored() -> None:
    seen: Counter[tuple[int, bool, bool]] = Counter()

    def form(x: Tensor) -> None:
        seen[(torch.get_num_threads(), torch.is_grad_enabled(), gc.isenabled())] += 1

    before = torch.get_num_threads()
    time_in_turn({"fp32": form}, EXAMPLE, batch=2, runs=2, warmup=1, threads=before + 1)
    assert set(seen) == {(before + 1, False, False)}
    assert (torch.get_num_threads(), torch.is_grad_enabled(), gc.isenabled()) == (before, True, True)


def test_threads_are_restored_when_a_form_fails() -> None:
    def broken(x: Tensor) -> None:
        raise RuntimeError("no kernel")

    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="no kernel"):
        time_in_turn({"fp32": broken}, EXAMPLE, batch=2, threads=before + 1)
    assert torch.get_num_threads() == before
    assert gc.isenabled()


def test_a_gpu_s_time_is_that_between_its_own_events(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            events.append("event")

        def elapsed_time(self, other: Event) -> float:
            assert other is not self
            return 2.5

    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(f"wait {device}"))
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "Event", Event)
    assert timing.once(recorder(events, "call"), EXAMPLE, torch.device("cuda", 1)) == 2.5
    assert events == ["wait cuda:1", "event", "call", "event", "wait cuda:1"]


def test_warming_up_goes_on_until_times_are_steady_and_ends_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([8.0, 4.0, 2.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(timing, "once", lambda *_: next(times))
    assert timing.warm_up({"fp32": lambda _: None}, EXAMPLE, torch.device("cpu"), 1, 10) == 5
    falling = (1 / n for n in range(1, 100))
    monkeypatch.setattr(timing, "once", lambda *_: next(falling) ** 3)
    assert timing.warm_up({"fp32": lambda _: None}, EXAMPLE, torch.device("cpu"), 3, 4) == 7


def test_what_a_call_takes_of_memory_is_in_its_row() -> None:
    def form(_: Tensor) -> None:
        torch.ones(8_000_000)

    (row,) = time_in_turn({"fp32": form}, EXAMPLE, batch=2, runs=2, warmup=1, more=0)
    assert row.memory_mb is None or 20 < row.memory_mb < 64


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system holds no process to cores")
def test_while_times_are_taken_the_process_is_held_to_as_many_cores_as_threads() -> None:
    allowed = os.sched_getaffinity(0)
    with watched(1) as session:
        held = {
            thread: os.sched_getaffinity(thread)
            for thread in (int(path.name) for path in Path("/proc/self/task").iterdir())
        }
    assert {len(cores) for cores in held.values()} == {1}
    assert session.found.affinity == sorted(allowed)[:1]
    assert os.sched_getaffinity(0) == allowed


@pytest.mark.parametrize(
    ("forms", "example", "options"),
    [
        ({"fake-quant": nn.Identity()}, EXAMPLE, {}),
        ({}, EXAMPLE, {}),
        ({"fp32": nn.Identity()}, EXAMPLE, {"runs": 0}),
        ({"fp32": nn.Identity()}, EXAMPLE, {"threads": 0}),
        ({"fp32": nn.Identity()}, torch.zeros(0, 3), {}),
    ],
)
def test_what_cannot_be_measured_is_an_error(
    forms: dict[str, timing.Form], example: Tensor, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="latency needs"):
        time_in_turn(forms, example, batch=len(example), **options)

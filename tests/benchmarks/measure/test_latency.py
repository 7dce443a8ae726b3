"""Latency: the order of the calls, what is restored, and what a row says. Nothing here asserts a duration."""

from __future__ import annotations

import gc
import statistics
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitq.benchmarks.measure import latency
from vitq.benchmarks.measure.latency import time_in_turn

EXAMPLE = torch.zeros(2, 3)


def recorder(calls: list[str], name: str) -> latency.Form:
    return lambda _: calls.append(name)


def test_forms_run_in_turn_after_the_warm_up_and_take_turns_to_start() -> None:
    calls: list[str] = []
    forms = {name: recorder(calls, name) for name in ("fp32", "fake-quant", "int8-kernel:torch")}
    time_in_turn(forms, EXAMPLE, batch=2, runs=4, warmup=2)
    warm, timed = calls[:6], calls[6:]
    assert warm == [name for name in forms for _ in range(2)]
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
    assert seen == {(before + 1, False, False): 3}
    assert (torch.get_num_threads(), torch.is_grad_enabled(), gc.isenabled()) == (before, True, True)


def test_threads_are_restored_when_a_form_fails() -> None:
    def broken(x: Tensor) -> None:
        raise RuntimeError("no kernel")

    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="no kernel"):
        time_in_turn({"fp32": broken}, EXAMPLE, batch=2, threads=before + 1)
    assert torch.get_num_threads() == before
    assert gc.isenabled()


def test_a_gpu_is_waited_for_before_and_after_each_timed_call(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(f"wait {device}"))
    latency._once(recorder(events, "call"), EXAMPLE, torch.device("cuda", 1))
    assert events == ["wait cuda:1", "call", "wait cuda:1"]


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
    forms: dict[str, latency.Form], example: Tensor, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="latency needs"):
        time_in_turn(forms, example, batch=len(example), **options)

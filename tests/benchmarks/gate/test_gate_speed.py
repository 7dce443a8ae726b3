"""Latency is judged by its ratio to FP32 in the same rounds, on one model of processor, and by nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rows import HERE, form, record, row

from vitq.benchmarks.gate import GateResult, Policy, gate
from vitq.record import LatencyRow
from vitq.rows import Row

NOW = HERE.model_copy(update={"finished": "2026-02-02T03:04:05+00:00"})
KERNEL = "int8-kernel:onnxruntime"


def timed(*forms: LatencyRow, **where: Any) -> Row:
    return row(latency=record("latency", latency=list(forms), provenance=HERE.model_copy(update=where)))


def rounds(kernel: float, seed: int, busy: float = 0.0, n: int = 20, noise: float = 0.03) -> list[LatencyRow]:
    """FP32 of 10 ms and a kernel of `kernel` of it; a neighbour slows whole rounds, and now and then one of the two."""
    dice = np.random.default_rng(seed)
    shared = 1 + busy * dice.random(n)
    alone = 1 + busy * (dice.random((2, n)) < 0.15)
    fp32, other = (base * shared * own * np.exp(noise * dice.standard_normal(n)) for base, own in
                   zip((10.0, 10.0 * kernel), alone, strict=True))  # fmt: skip
    return [form("fp32", fp32.tolist()), form(KERNEL, other.tolist())]


def judged(old: Row, new: Row, **policy: Any) -> GateResult:
    later = (new.latency_provenance or HERE).model_copy(update={"finished": NOW.finished})
    return gate([old], [new.model_copy(update={"provenance": NOW, "latency_provenance": later})], Policy(**policy))


def verdict(result: GateResult, name: str = KERNEL) -> str:
    (found,) = (each for each in result.rows if each.quantity.startswith(f"{name}, "))
    return found.verdict


@pytest.mark.parametrize("seed", range(10))
def test_unchanged_code_beside_a_busy_neighbour_stays_green(seed: int) -> None:
    old, new = timed(*rounds(0.4, seed)), timed(*rounds(0.4, 100 + seed, busy=1.0))
    assert new.latency[0].median_ms > 1.2 * old.latency[0].median_ms, "the neighbour is felt"
    assert judged(old, new).exit_code == 0


@pytest.mark.parametrize("busy", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_kernel_a_fifth_slower_turns_red(seed: int, busy: float) -> None:
    old = timed(*rounds(0.4, seed, busy, n=60))
    new = timed(*rounds(0.48, 100 + seed, busy, n=60))
    assert verdict(judged(old, new)) == "slower"
    assert verdict(judged(new, old)) == "faster"
    assert judged(old, new).exit_code == 1


def test_a_machine_that_is_slower_as_a_whole_is_no_regression() -> None:
    slow = [form(each.exec, [3 * s for s in each.samples_ms]) for each in rounds(0.4, 1)]
    assert verdict(judged(timed(*rounds(0.4, 0)), timed(*slow))) == "same"


def test_a_change_that_is_certain_but_small_passes() -> None:
    old, new = timed(*rounds(0.4, 0, n=200, noise=0.01)), timed(*rounds(0.42, 1, n=200, noise=0.01))
    assert verdict(judged(old, new)) == "same"
    assert verdict(judged(old, new, slowdown=1.02)) == "slower"


def test_a_change_that_is_large_but_not_certain_passes_and_is_called_noisy() -> None:
    result = judged(timed(*rounds(0.4, 0, noise=0.8)), timed(*rounds(0.5, 1, noise=0.8)))
    assert (verdict(result), result.exit_code) == ("noisy", 0)
    assert [each.verdict for each in result.shown] == ["noisy"]


def test_too_few_rounds_can_never_be_certain_and_it_is_said() -> None:
    result = judged(timed(*rounds(0.4, 0, n=3)), timed(*rounds(0.8, 1, n=3)))
    assert verdict(result) == "not-compared"
    assert "3 and 3 rounds can never be certain at 0.01: time more (1x)" in result.render()


def test_what_an_evaluation_costs_is_shown_and_judged_only_where_asked() -> None:
    old = timed(form("fp32", [10.0] * 12), form("fake-quant", [30.0] * 12))
    new = timed(form("fp32", [20.0] * 12), form("fake-quant", [90.0] * 12))
    shown = judged(old, new)
    assert shown.exit_code == 0
    assert shown.costs == [
        "evaluation cost of fake-quant, shown and not judged in milliseconds: x3.00 in the median of 1 cell (x3.00 to "
        "x3.00)",
        "evaluation cost of fp32, shown and not judged in milliseconds: x2.00 in the median of 1 cell (x2.00 to x2.00)",
    ]
    asked = judged(old, new, cost=True)
    assert verdict(asked, "fake-quant") == "slower"
    assert verdict(asked, "fp32") == "shown", "others are divided by it"


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "another CPU": ({"cpu": "Another CPU"}, "other CPU"),
    "no name": ({"cpu": ""}, "the CPU is not known"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_processor_is_not_compared_and_it_is_said(name: str) -> None:
    where, told = OTHERS[name]
    result = judged(timed(*rounds(0.4, 0)), timed(*rounds(4.0, 1), **where))
    assert result.exit_code == 0
    assert f"{KERNEL}, batch 8, 1 threads, cpu not compared: {told} (1x)" in result.render()


def test_another_machine_with_the_same_cpu_is_compared() -> None:
    assert verdict(judged(timed(*rounds(0.4, 0)), timed(*rounds(0.8, 1), machine="machine-b"))) == "slower"


def test_on_a_gpu_its_model_counts() -> None:
    def on(gpu: str, seed: int, kernel: float) -> Row:
        return timed(*(each.model_copy(update={"device": "cuda:0"}) for each in rounds(kernel, seed)), gpu=gpu, cpu=gpu)

    assert verdict(judged(on("A", 0, 0.4), on("B", 1, 0.8))) == "not-compared"
    assert verdict(judged(on("A", 0, 0.4), on("A", 1, 0.8))) == "slower"


@pytest.mark.parametrize(
    "change", [{"batch": 1}, {"threads": 2}, {"device": "cuda:0"}, {"exec": "int8-kernel:openvino"}]
)
def test_a_form_that_is_no_longer_timed_is_missing(change: dict[str, Any]) -> None:
    new = rounds(0.4, 1)
    new[1] = new[1].model_copy(update=change)
    result = judged(timed(*rounds(0.4, 0)), timed(*new))
    assert verdict(judged(timed(*rounds(0.4, 0)), timed(new[0]))) == "missing"
    assert (verdict(result), result.exit_code) == ("missing", 1)


def test_rounds_that_fp32_was_not_in_are_not_compared() -> None:
    old, new = rounds(0.4, 0), rounds(0.8, 1)
    alone = judged(timed(*old), timed(new[1]))
    assert verdict(alone) == "not-compared"
    assert "FP32 was not timed beside it" in alone.render()
    fewer = form("fp32", new[0].samples_ms[:-1])
    assert "FP32 was timed in other rounds" in judged(timed(*old), timed(fewer, new[1])).render()

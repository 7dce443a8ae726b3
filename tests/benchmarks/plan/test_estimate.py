"""Estimates: what earlier records of the machine say, what operations say, and how both are told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.estimate import Conditions, Cost, cost, duration, known_sizes, size, together
from vitq.benchmarks.plan.past_costs import PastCosts, read_costs
from vitq.benchmarks.plan.suite import load_suite
from vitq.record import CellKey
from vitq.tasks.names import model_entries

SMOKE = {cell.id: cell for cell in expand(load_suite("smoke"))[0]}
MINMAX = SMOKE["minmax/classification/digits/digits_vit/W4A4/seed0"]
FULL = [cell for cell in expand(load_suite("full"))[0] if cell.task == "classification"]


def line(cell: CellKey, kind: str, seconds: float, machine: str = "here", **more: Any) -> Mapping[str, Any]:
    origin = {"machine": machine, "device": "cpu"}
    return {
        "kind": kind, "status": "done", "cell": cell.model_dump(), "seconds": {"it": seconds}, "provenance": origin,
        "identity": {}, "metrics": {"top1": {"n": 600}} if kind == "accuracy" else {}, **more,
    }  # fmt: skip


def past(folder: Path, *lines: Mapping[str, Any] | str) -> PastCosts:
    folder.mkdir(exist_ok=True)
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    (folder / "records.jsonl").write_text(text)
    return read_costs([folder], "here")


def where(known: PastCosts, device: str = "cpu", threads: int = 1) -> Conditions:
    return Conditions(known, device, threads, {})


def test_the_sizes_that_ship_are_those_that_are_counted() -> None:
    import torch

    from vitq.benchmarks.measure.macs import count_macs, explicit_copy
    from vitq.tasks.registry import load

    assert set(known_sizes()) == set(model_entries())
    task = load("classification")
    for name in ("digits_vit", "digits_swin", "deit_tiny_patch16_224.fb_in1k"):
        with torch.device("meta"):
            model = task.build_model(name).eval()
            sample = task.example(model_entries()[name].preprocessing, 1, "meta")
            macs = sum(count_macs(explicit_copy(model), sample, task.forward).values())
        assert known_sizes()[name] == (macs, sum(p.numel() for p in model.parameters()))


def test_what_the_like_took_here_is_what_is_expected(tmp_path: Path) -> None:
    known = past(
        tmp_path,
        line(MINMAX, "model", 40, model_file={"bytes": 12345}),
        line(MINMAX, "accuracy", 6),
        line(MINMAX, "accuracy", 100, machine="elsewhere"),
        line(MINMAX.model_copy(update={"bits": "W8A8"}), "model", 1000),
        "no json",
        json.dumps({"kind": "model"}),
        json.dumps([1]),
    )
    found = cost(MINMAX, ("model", "accuracy"), None, where(known))
    assert (found.seconds, found.bytes, found.by) == (46, 12345, "records")
    limited = cost(MINMAX.asked(limit=100), ("accuracy",), None, where(known))
    assert limited.seconds == pytest.approx(1)


def test_another_machine_s_records_say_nothing_of_time(tmp_path: Path) -> None:
    found = cost(MINMAX, ("accuracy",), None, where(past(tmp_path, line(MINMAX, "accuracy", 1e6, machine="other"))))
    assert found.by == "operations"
    assert found.seconds < 100


def rate_of(folder: Path, macs: int) -> PastCosts:
    """Known from an evaluation of 600 images of a model of so many MACs in a minute."""
    fp32 = SMOKE["fp32/classification/digits/digits_vit/FP32/seed0"]
    counted = line(fp32, "counts", 1, operations={"macs": macs}, size={"params": 1})
    return past(folder, counted, line(fp32, "accuracy", 60))


def test_a_measured_rate_serves_models_of_about_its_size(tmp_path: Path) -> None:
    known = rate_of(tmp_path, 470_000_000)
    assert known.rate(470_000_000, "cpu") == pytest.approx(4.7e8 * 600 / 60)
    assert known.rate(470_000_000_000, "cpu") is None
    slow, usual = (cost(MINMAX, ("accuracy",), None, where(k)) for k in (known, PastCosts()))
    assert slow.seconds == pytest.approx(120)
    assert usual.seconds < slow.seconds


def test_what_a_small_model_took_says_nothing_of_the_rate(tmp_path: Path) -> None:
    assert rate_of(tmp_path, 4_700_000).rate(4_700_000, "cpu") is None


def test_more_work_takes_longer() -> None:
    deit = {c.bits: c for c in FULL if c.method == "minmax" and "deit_tiny" in c.model}
    base = next(c for c in FULL if c.method == "minmax" and "deit_base" in c.model and c.bits == "W8A8")
    at = where(PastCosts(), threads=4)
    tiny = cost(deit["W8A8"], ("model", "accuracy"), None, at)
    assert cost(base, ("model", "accuracy"), None, at).seconds > 5 * tiny.seconds
    assert cost(deit["W4A4"], ("model",), None, at).bytes < tiny.bytes
    assert cost(deit["W8A8"], ("accuracy",), None, at).bytes == 0
    assert cost(deit["W8A8"], ("accuracy",), None, where(PastCosts(), "cuda")).seconds < tiny.seconds
    binary = [c for c in FULL if c.method == "binary_vit"]
    assert cost(binary[0], ("model",), None, at).seconds > 1000 * tiny.seconds, "training is counted"


@pytest.mark.parametrize(
    ("method", "less"),
    [
        ("psaq_vit", {"calibration": "real"}),
        ("psaq_vit_v2", {"generation": "psaq_vit", "student_training": False}),
        ("psaq_vit_v2", {"student_training": False}),
    ],
)
def test_steps_that_are_not_made_are_not_counted(method: str, less: dict[str, Any]) -> None:
    usual = next(c for c in FULL if c.method == method and not c.variant)
    other = usual.asked(options={**usual.options, **less})
    at = where(PastCosts())
    assert cost(other, ("model",), None, at).seconds < cost(usual, ("model",), None, at).seconds


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e4)), max_size=8), st.integers(1, 64))
def test_cells_side_by_side_are_never_shorter_than_the_longest(spent: list[tuple[float, float]], jobs: int) -> None:
    costs = [Cost(a, b, 10, "operations") for a, b in spent]
    one, many = together(costs, 1, "cpu"), together(costs, jobs, "cpu")
    assert many.seconds <= one.seconds * (1 + 1e-9)
    assert many.seconds >= max((a for a, _ in spent), default=0)
    assert many.seconds >= sum(b for _, b in spent) * (1 - 1e-9)


def test_it_is_told_in_a_line() -> None:
    found = together([Cost(3600, 0, 2_000_000_000, "records"), Cost(3600, 0, 0, "operations")], 1, "cuda:0")
    assert found.text == (
        "estimated: 2.0 h, 2 GPU hours and 2.0 GB of disk for 2 cells (1 by earlier runs here, 1 by their operations)"
    ).replace("2.0 h", duration(found.seconds))
    assert together([], 1, "cpu").text == "estimated: nothing is left to run"
    assert found.error(156).endswith("took 2.6 min")
    assert [duration(s) for s in (3, 99, 156, 3600 * 5, 86400 * 4, 86400 * 3650)] == [
        "3 s", "99 s", "2.6 min", "5.0 h", "4.0 days", "10 years",
    ]  # fmt: skip
    assert (size(1_234_567), size(12_345_678), size(12_345_678_901)) == ("1.2 MB", "12 MB", "12.3 GB")

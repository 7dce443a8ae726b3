"""A cell inside its worker: what is asked before anything is loaded, and what follows when a measurement fails."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from vitq.benchmarks.measure.bench import Bench
from vitq.benchmarks.plan.identity import Surroundings, identify
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.plan.suite import Latency
from vitq.benchmarks.run import worker
from vitq.benchmarks.run.messages import Finished, Link, Order
from vitq.benchmarks.run.runner import Summary
from vitq.methods.minmax import method as minmax
from vitq.record import CellKey, Provenance, Record


def order(folder: Path) -> Order:
    """Min/max on the digits, everything wanted."""
    cell = CellKey(
        id="", method="minmax", task="classification", dataset="digits", model="digits_vit", bits="W8A8",
        calibration={"images": 4, "batch": 4}, limit=20,
    )  # fmt: skip
    latency = Latency(batch=1, runs=3, warmup=0, threads=1)
    identities = identify(cell, Surroundings(Site().places(), "cpu", latency, 1))
    return Order(
        cell.asked(), identities, Site(), folder, Provenance(vitq="0"), latency=latency,
        wanted=("model", "accuracy", "counts", "latency"), fp32_wanted=True,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _process_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_prepare_process", lambda order: None)


def work(order: Order) -> tuple[list[Record], Finished]:
    told: list[Record] = []
    ended = worker.work_on(order, Link(lambda phase, done, total: None, told.append))
    return told, ended


def test_a_method_that_cannot_is_asked_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted(bench: Bench) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(minmax, "unsupported", lambda bits, options: "not these widths")
    monkeypatch.setattr(Bench, "loaded", property(unwanted))
    told, ended = work(order(tmp_path))
    assert [(r.kind, r.status, r.error) for r in told] == [
        ("model", "unsupported", "not these widths"),
        ("counts", "unsupported", "not these widths"),
    ]
    assert ended.bad_input is None
    assert not list(tmp_path.iterdir())
    assert Summary(Counter(r.status for r in told)).exit_code == 0


def test_every_measurement_is_told_once_in_its_order(tmp_path: Path) -> None:
    told, _ = work(order(tmp_path))
    assert [(r.kind, r.cell.method, r.status) for r in told] == [
        ("counts", "minmax", "done"), ("model", "minmax", "done"), ("accuracy", "fp32", "done"),
        ("accuracy", "minmax", "done"), ("latency", "minmax", "done"),
    ]  # fmt: skip
    assert told[2].cell.id == "fp32/classification/digits/digits_vit/FP32/seed0/limit20"


def test_what_an_earlier_run_left_is_measured_and_not_made_again(tmp_path: Path) -> None:
    first = order(tmp_path)
    work(first)
    told, _ = work(replace(first, wanted=("latency",)))
    assert [r.kind for r in told] == ["latency"]
    first.model_path.write_bytes(b"damaged")
    told, _ = work(replace(first, wanted=("latency",)))
    assert [r.kind for r in told] == ["model", "latency"]


def test_a_failure_that_nobody_foresaw_keeps_its_traceback_and_ends_what_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no scale")

    monkeypatch.setattr(minmax, "quantize", broken)
    told, ended = work(order(tmp_path))
    assert [(r.kind, r.status) for r in told] == [("counts", "done"), ("model", "failed")]
    assert told[1].error == "ZeroDivisionError: no scale"
    assert told[1].traceback is not None
    assert "in broken" in told[1].traceback
    assert told[1].details is None
    assert ended.bad_input is None

"""An evaluation shared among workers: the same record as one worker's, whatever dies or fails on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_cells import Quiet

from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.orders import plan
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.plan.suite import load_suite
from vitq.benchmarks.run import worker
from vitq.benchmarks.run.executors import LocalExecutor, imports_of
from vitq.benchmarks.run.messages import Died, Event, Finished, Link, Measured, Order, PartDone
from vitq.benchmarks.run.runner import run
from vitq.benchmarks.run.splitting import Splitting
from vitq.benchmarks.run.store import Store, read_lines
from vitq.record import Record


def planned(folder: Path, method: str = "minmax") -> list[Order]:
    suite = load_suite("smoke").model_copy(update={"measure": ["accuracy", "counts"]})
    cells = [c for c in expand(suite)[0] if (c.model, c.method, c.bits) == ("digits_vit", method, "W4A4")]
    return plan(suite, cells[:1], Site(), folder, device="cpu", command="test")


def records(folder: Path) -> list[Record]:
    return [line for line in read_lines(folder) if isinstance(line, Record)]


class Here:
    """An executor that does each order in this process, by `work`."""

    slots, alone, attempts = 3, 1, 3

    def __init__(self, work: object = worker.work_on) -> None:
        self.work, self.heard, self.done = work, deque[Event](), list[Order]()

    def submit(self, order: Order) -> None:
        self.done.append(order)
        link = Link(
            lambda *_: None,
            lambda record: self.heard.append(Measured(order, record)),
            lambda found: self.heard.append(PartDone(order, found)),
        )
        try:
            self.heard.append(self.work(order, link))
        except KeyboardInterrupt:
            self.heard.append(Died(order, "it was killed"))

    def events(self, timeout: float) -> Iterator[Event]:
        while self.heard:
            yield self.heard.popleft()

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _process_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_prepare_process", lambda order: None)


def said(folder: Path) -> dict[str, tuple[object, ...]]:
    return {
        r.key: (
            r.kind,
            r.status,
            r.metrics,
            r.output_sha256,
            r.error,
            r.outcomes and (folder / r.outcomes).read_bytes(),
        )
        for r in records(folder)
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    """What one worker says."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "_prepare_process", lambda order: None)
        run(planned(folder), Store(folder), Here(), Quiet())
    return said(folder)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_the_joined_record_is_that_of_one_worker(tmp_path: Path, whole: dict[str, object], parts: int) -> None:
    inner = Here()
    summary = run(planned(tmp_path), Store(tmp_path), Splitting(inner, parts), Quiet())
    assert said(tmp_path) == whole
    assert summary.statuses == {"done": 4}
    assert [order.part.number for order in inner.done if order.part] == list(range(parts))
    again = run(planned(tmp_path), Store(tmp_path), Splitting(Here(), parts), Quiet())
    assert again.resumed == 1


def test_a_part_whose_worker_dies_is_done_again_and_the_others_are_not(
    tmp_path: Path, whole: dict[str, object]
) -> None:
    died = []

    def work(order: Order, link: Link) -> Finished:
        if order.part and order.part.number == 1 and not died:
            died.append(order)
            raise KeyboardInterrupt
        return worker.work_on(order, link)

    inner = Here(work)
    run(planned(tmp_path), Store(tmp_path), Splitting(inner, 3), Quiet())
    assert said(tmp_path) == whole
    assert [order.part.number for order in inner.done if order.part] == [0, 1, 2, 1]


def test_parts_that_fail_alike_are_one_failed_record(tmp_path: Path) -> None:
    def work(order: Order, link: Link) -> Finished:
        return worker.work_on(replace(order, site=Site(weights={"digits_vit": tmp_path / "no"})), link)

    def broken(order: Order, link: Link) -> Finished:
        return (work if order.part else worker.work_on)(order, link)

    summary = run(planned(tmp_path), Store(tmp_path), Splitting(Here(broken), 3), Quiet())
    assert {(r.kind, r.status) for r in records(tmp_path)} == {
        ("counts", "done"), ("model", "done"), ("accuracy", "failed"),
    }  # fmt: skip
    assert summary.statuses == {"done": 2, "failed": 1}
    assert summary.exit_code == 2


def test_free_slots_share_what_is_long_and_leave_what_is_short_to_one(tmp_path: Path) -> None:
    [order] = planned(tmp_path)
    for limit, parts in ((None, 1), (1600, 3), (1_000_000, 8)):
        inner = Here(lambda order, link: Finished(order))
        splitting = Splitting(inner)
        order.model_path.parent.mkdir(parents=True, exist_ok=True)
        order.model_path.touch()
        cell = order.cell.model_copy(update={"limit": limit})
        splitting.submit(replace(order, cell=cell, wanted=("accuracy",), split=8))
        assert splitting._cells.get(cell.id, None) is None if parts == 1 else splitting._cells[cell.id].of == parts


@pytest.mark.slow
def test_processes_share_it_too(tmp_path: Path, whole: dict[str, object]) -> None:
    orders = planned(tmp_path)
    run(orders, Store(tmp_path), Splitting(LocalExecutor(2, preload=imports_of(orders)), 2), Quiet())
    assert {key: found[2] for key, found in said(tmp_path).items()} == {key: found[2] for key, found in whole.items()}

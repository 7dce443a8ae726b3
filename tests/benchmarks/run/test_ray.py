"""Cells on a local Ray cluster: workers and drivers that die, inputs that differ, machines that see no results."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'vitq[ray]'")

import fake_cells
import ray_cells
from fake_cells import order
from ray_cells import PRELOAD, run_on

from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.orders import plan
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.plan.suite import load_suite
from vitq.benchmarks.run.asks import Asks
from vitq.benchmarks.run.cluster import Cluster
from vitq.benchmarks.run.executors import LocalExecutor, imports_of
from vitq.benchmarks.run.ray_worker import Sent
from vitq.benchmarks.run.runner import run
from vitq.benchmarks.run.store import Store, read_lines
from vitq.errors import BadInputError
from vitq.record import Record

pytestmark = pytest.mark.slow
MADE = Sent(preload=PRELOAD, work=fake_cells.work)


def records(folder: Path) -> list[Record]:
    return [line for line in read_lines(folder) if isinstance(line, Record)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ray_cells.SUPPORT))
        made = Cluster(cpus=2)
        before = {process.pid for process in psutil.Process().children(recursive=True)}
        yield made
        made.close()
        _, alive = psutil.wait_procs([psutil.Process(pid) for pid in before if psutil.pid_exists(pid)], timeout=120)
        assert [process.name() for process in alive if "resource_tracker" not in ray_cells.command(process)] == []


def test_every_cell_runs_once_and_running_again_runs_none(cluster: Cluster, tmp_path: Path) -> None:
    orders = [order(f"c{i}", tmp_path) for i in range(20)]
    first = run_on(cluster, orders, tmp_path, MADE)
    again = run_on(cluster, orders, tmp_path, MADE)
    assert (first.statuses["done"], first.exit_code, again.resumed) == (20, 0, 20)
    assert sorted((tmp_path / "started").read_text().split()) == sorted(o.cell.id for o in orders)


def test_a_cell_whose_worker_dies_three_times_is_a_failed_record_and_the_others_go_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    summary = run_on(cluster, [order(n, tmp_path) for n in ("a", "die", "b")], tmp_path, MADE)
    found = {r.cell.id: r for r in records(tmp_path)}
    assert {name: r.status for name, r in found.items()} == {"a": "done", "b": "done", "die": "failed"}
    assert "its worker died 3 times: 1. its worker process was killed by signal 9" in (found["die"].error or "")
    assert Counter((tmp_path / "started").read_text().split())["die"] == 3
    assert summary.statuses == {"done": 2, "failed": 1}


def test_what_no_machine_can_give_is_refused_at_once(cluster: Cluster) -> None:
    with pytest.raises(BadInputError, match=r"can give a cell 1 CPU and 3 GPUs: the largest has 2 CPUs and .* GB"):
        cluster.check(Asks(cpus=1, gpus=3))
    with pytest.raises(BadInputError, match=r"can give a cell 1 CPU and 9000\.0 GB of memory"):
        cluster.check(Asks(memory=9 * 10**12))
    assert cluster.slots(Asks(cpus=0.5)) == 4


def planned(folder: Path, pick: str = "minmax/classification/digits/digits_vit/W8A8/seed0") -> list[Any]:
    """Orders of cheap real cells: one quantized, without its times."""
    suite = load_suite("smoke").model_copy(update={"measure": ["accuracy", "counts"]})
    return plan(suite, [c for c in expand(suite)[0] if c.id == pick], Site(), folder, device="cpu", command="test")


def said(folder: Path) -> dict[str, tuple[object, ...]]:
    """What records say of what they measured, and the content of the files that they name."""
    fields = {"kind", "status", "metrics", "output_sha256", "size", "operations", "details", "model_file", "error"}
    return {
        r.key: (r.model_dump(include=fields), (folder / r.outcomes).read_bytes() if r.outcomes else None)
        for r in records(folder)
    }


def test_a_cell_gives_what_it_gives_without_ray_also_where_no_machine_sees_the_results(
    cluster: Cluster, tmp_path: Path
) -> None:
    local, shared, sent = (tmp_path / name for name in ("local", "shared", "sent"))
    orders = {folder: planned(folder) for folder in (local, shared, sent)}
    preload = tuple(imports_of(orders[local]))
    run(orders[local], Store(local), LocalExecutor(1, preload=preload), fake_cells.Quiet())
    run_on(cluster, orders[shared], shared, Sent(preload=preload))
    run_on(cluster, orders[sent], sent, Sent(preload=preload, ship=True))
    assert said(local) == said(shared) == said(sent)
    assert {r.status for r in records(local)} == {"done"}
    assert orders[sent][0].model_path.read_bytes() == orders[local][0].model_path.read_bytes()


def test_a_machine_with_other_inputs_fails_the_cell_with_the_reason(cluster: Cluster, tmp_path: Path) -> None:
    [one] = planned(tmp_path)
    own = {name: {**identity, "weights": "0" * 64} for name, identity in one.identities.own.items()}
    other = replace(one, identities=replace(one.identities, own=own))
    summary = run_on(cluster, [other], tmp_path, Sent(preload=("vitq.benchmarks.run.worker",)))
    [failed] = records(tmp_path)
    assert failed.status == "failed"
    assert "what decides this cell is not the driver's here: weights (000000000000... -> " in (failed.error or "")
    assert summary.bad_inputs == [failed.error]
    assert summary.exit_code == 2


def test_a_site_file_is_that_of_the_workers_machine(cluster: Cluster, tmp_path: Path) -> None:
    missing = Sent(site=Path("/nowhere/site.toml"), preload=("vitq.benchmarks.run.worker",))
    summary = run_on(cluster, planned(tmp_path), tmp_path, missing)
    assert "site file /nowhere/site.toml: is not there" in summary.bad_inputs[0]


def wait_for(seconds: float, met: Any) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.mark.parametrize("times", [4, pytest.param(50, marks=pytest.mark.long)])
def test_kills_of_workers_and_drivers_lose_no_finished_measurement_and_repeat_none(tmp_path: Path, times: int) -> None:
    """A worker that is killed gives its cell to another; a killed driver is started again and goes on."""
    path, dice, cells = tmp_path / "records.jsonl", random.Random(0), 40 * times
    seen: list[str] = []
    driver = ray_cells.start(tmp_path, cells)
    try:
        for kill in range(times):
            before = len(seen)
            wait_for(120, lambda before=before: path.exists() and len(records(tmp_path)) > before + 2)
            assert driver.poll() is None, "the matrix ended before it was killed"
            workers = ray_cells.ray_workers(driver.pid)
            if kill % 4 == 3 or not workers:
                driver.kill()
                driver.wait()
                ray_cells.end(driver.pid)
                driver = ray_cells.start(tmp_path, cells)
            else:
                dice.choice(workers).send_signal(signal.SIGKILL)
            now = [r.cell.id for r in records(tmp_path)]
            assert now[: len(seen)] == seen, "a finished record was lost"
            seen = now
        driver.kill()
        driver.wait()
        ray_cells.end(driver.pid)
        driver = ray_cells.start(tmp_path, len(seen))
        assert driver.wait(300) == 0
    finally:
        driver.kill()
        ray_cells.end(driver.pid)
    found = records(tmp_path)
    assert Counter(r.status for r in found) == {"done": len(found)}
    assert len({r.key for r in found}) == len(found), "a finished measurement was repeated"


def test_by_the_command_line(tmp_path: Path) -> None:
    words = ["run", "smoke", "-k", "minmax and digits_vit and W8A8", "--executor", "ray", "-o", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "vitq", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "minmax/classification/digits/digits_vit/W8A8/seed0" in done.stdout
    assert "(raylet)" not in done.stdout + done.stderr
    assert {r.kind for r in records(tmp_path)} == {"model", "accuracy", "counts", "latency"}

"""The driver with a worker that only waits and writes: crashes, two drivers on one folder, workers that die."""

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fake_cells import Quiet, order, work

from vitq.benchmarks.run.executors import LocalExecutor, imports_of
from vitq.benchmarks.run.runner import run
from vitq.benchmarks.run.store import Store, read_lines
from vitq.record import Record


def records(folder: Path) -> list[Record]:
    return [line for line in read_lines(folder) if isinstance(line, Record)]


SUPPORT = Path(__file__).parents[2] / "support"


def start(folder: Path, names: list[str]) -> subprocess.Popen:
    """A driver in a process of its own."""
    code = f"""
        import sys
        sys.path.insert(0, {str(SUPPORT)!r})
        from pathlib import Path
        import fake_cells as t
        from vitq.benchmarks.run.executors import LocalExecutor
        from vitq.benchmarks.run.runner import run
        from vitq.benchmarks.run.store import Store
        folder = Path({str(folder)!r})
        if __name__ == "__main__":
            orders = [t.order(n, folder) for n in {names!r}]
            run(orders, Store(folder), LocalExecutor(2, work=t.work, preload=["json"]), t.Quiet())
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], start_new_session=True)


def test_every_cell_runs_once_and_running_again_runs_none(tmp_path):
    orders = [order(f"c{i}", tmp_path) for i in range(5)]
    first = run(orders, Store(tmp_path), LocalExecutor(2, work=work, preload=["json"]), Quiet())
    again = run(orders, Store(tmp_path), LocalExecutor(2, work=work, preload=["json"]), Quiet())
    assert (first.statuses["done"], again.statuses["done"], again.resumed) == (5, 0, 5)
    assert first.exit_code == again.exit_code == 0


def test_a_worker_that_dies_is_a_failed_record_and_the_others_go_on(tmp_path):
    orders = [order(n, tmp_path) for n in ("a", "die", "b")]
    summary = run(orders, Store(tmp_path), LocalExecutor(1, work=work, preload=["json"]), Quiet())
    status = {r.cell.id: r for r in records(tmp_path)}
    assert [status[n].status for n in ("a", "die", "b")] == ["done", "failed", "done"]
    assert "signal 9" in status["die"].error
    assert summary.exit_code == 3


def test_bad_input_met_by_a_cell_is_told_and_the_others_go_on(tmp_path):
    orders = [order(n, tmp_path) for n in ("bad1", "bad2", "good")]
    summary = run(orders, Store(tmp_path), LocalExecutor(1, work=work, preload=["json"]), Quiet())
    assert summary.bad_inputs == ["image x.jpg is truncated"]
    assert summary.exit_code == 2
    assert summary.statuses["done"] == 1


def test_two_drivers_share_a_folder_without_doing_anything_twice(tmp_path):
    names = [f"c{i}" for i in range(30)]
    drivers = [start(tmp_path, names), start(tmp_path, names)]
    assert [d.wait(60) for d in drivers] == [0, 0]
    assert sorted(r.cell.id for r in records(tmp_path)) == sorted(names)
    assert Counter((tmp_path / "started").read_text().split()) == Counter(names)


def wait_for_growth(path: Path, driver: subprocess.Popen) -> None:
    """Until another measurement stands there; the lines that only join a cell to its own do not count."""

    def measured() -> int:
        return path.read_bytes().count(b'"kind":"counts"') if path.exists() else 0

    before = measured()
    while driver.poll() is None and measured() <= before:
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.long)])
def test_kills_lose_no_finished_record_and_repeat_none(tmp_path, times):
    names = [f"c{i}" for i in range(2000)]
    path = tmp_path / "records.jsonl"
    driver = start(tmp_path, names)
    dice, seen, kills = random.Random(0), [], 0
    while kills < times:
        if dice.random() < 0.2:
            time.sleep(dice.random() * 0.4)  # while it starts
        else:
            wait_for_growth(path, driver)
            time.sleep(dice.random() * 0.06)  # while it works
        assert driver.poll() is None, "the matrix ended before it was killed"
        os.killpg(driver.pid, signal.SIGKILL) if dice.random() < 0.5 else driver.kill()
        driver.wait()
        kills += 1
        now = [r.cell.id for r in records(tmp_path)] if path.exists() else []
        assert now[: len(seen)] == seen, "a finished record was lost"
        seen = now
        driver = start(tmp_path, names)
    driver.kill()
    driver.wait()
    names = names[: len(seen) + 50]
    assert start(tmp_path, names).wait(120) == 0
    finished = [r.cell.id for r in records(tmp_path)]
    assert seen, "the kills came before any work"
    assert len(set(finished)) == len(finished), "a finished record was repeated"
    assert set(names) <= set(finished)


def test_a_killed_server_of_processes_costs_at_most_its_cells(tmp_path):
    """`kill -9` of the process that others are forked from: the run goes on, and what was lost is a failed record."""
    executor = LocalExecutor(1, work=work, preload=["json"])
    assert run([order("a", tmp_path)], Store(tmp_path), executor, Quiet()).exit_code == 0
    from multiprocessing import forkserver

    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    time.sleep(0.1)
    summary = run([order(n, tmp_path) for n in ("b", "c")], Store(tmp_path), LocalExecutor(1, work=work), Quiet())
    assert summary.statuses["done"] + summary.statuses["failed"] == 2
    assert summary.statuses["done"] >= 1


def test_a_results_folder_deleted_under_the_run_ends_it_with_a_line(tmp_path):
    folder = tmp_path / "results"
    store = Store(folder)
    (folder / "records.jsonl").touch()
    shutil.rmtree(folder)
    summary = run([order("a", folder)], store, LocalExecutor(1, work=work, preload=["json"]), Quiet())
    assert "was deleted during the run" in summary.gone
    assert summary.exit_code == 3


def test_cells_that_ask_for_the_same_share_it_and_each_has_a_row(tmp_path):
    one = order("a", tmp_path)
    twin = replace(one, cell=one.cell.model_copy(update={"id": "b", "variant": "b"}))
    summary = run([one, twin], Store(tmp_path), LocalExecutor(2, work=work, preload=["json"]), Quiet())
    assert summary.exit_code == 0
    assert (tmp_path / "started").read_text().split() == ["a"]
    assert [(row.cell.id, row.size.params) for row in Store(tmp_path).rows()] == [("a", 1), ("b", 1)]


def test_the_server_imports_what_cells_do_but_no_library_that_starts_cuda_where_cells_run_on_a_gpu(tmp_path):
    orders = [order("a", tmp_path)]
    scenes = [replace(o, cell=o.cell.model_copy(update={"task": "detection", "method": "repq_vit"})) for o in orders]
    on_cpu = imports_of([replace(o, device="cpu") for o in scenes])
    on_gpu = imports_of([replace(o, device="cuda:0") for o in scenes])
    assert [name for name in on_cpu if name not in on_gpu] == ["vitq.tasks.mm_registered"]
    assert {"vitq.benchmarks.run.worker", "vitq.tasks.detection", "vitq.methods.repq_vit.method"} <= set(on_gpu)
    code = f"import sys; [__import__(n) for n in {on_gpu!r}]; print({{'mmcv', 'mmdet', 'mmseg'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

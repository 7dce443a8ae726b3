"""The driver with a worker that only waits and writes: crashes, two drivers on one folder, workers that die."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest
from fake_cells import Quiet, order, work

from vitq.benchmarks.executors import LocalExecutor
from vitq.benchmarks.runner import run
from vitq.benchmarks.store import Store, read_records

SUPPORT = Path(__file__).parent.parent / "support"


def start(folder: Path, names: list[str]) -> subprocess.Popen:
    """A driver in a process of its own."""
    code = f"""
        import sys
        sys.path.insert(0, {str(SUPPORT)!r})
        from pathlib import Path
        import fake_cells as t
        from vitq.benchmarks.executors import LocalExecutor
        from vitq.benchmarks.runner import run
        from vitq.benchmarks.store import Store
        folder = Path({str(folder)!r})
        if __name__ == "__main__":
            orders = [t.order(n, folder) for n in {names!r}]
            run(orders, Store(folder), LocalExecutor(2, work=t.work, preload="json"), t.Quiet())
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], start_new_session=True)


def test_every_cell_runs_once_and_running_again_runs_none(tmp_path):
    orders = [order(f"c{i}", tmp_path) for i in range(5)]
    first = run(orders, Store(tmp_path), LocalExecutor(2, work=work, preload="json"), Quiet())
    again = run(orders, Store(tmp_path), LocalExecutor(2, work=work, preload="json"), Quiet())
    assert (first.statuses["done"], again.statuses["done"], again.resumed) == (5, 0, 5)
    assert first.exit_code == again.exit_code == 0


def test_a_worker_that_dies_is_a_failed_record_and_the_others_go_on(tmp_path):
    orders = [order(n, tmp_path) for n in ("a", "die", "b")]
    summary = run(orders, Store(tmp_path), LocalExecutor(1, work=work, preload="json"), Quiet())
    status = {r.cell.id: r for r in read_records(tmp_path)}
    assert [status[n].status for n in ("a", "die", "b")] == ["done", "failed", "done"]
    assert "signal 9" in status["die"].error
    assert summary.exit_code == 3


def test_bad_input_met_by_a_cell_is_told_and_the_others_go_on(tmp_path):
    orders = [order(n, tmp_path) for n in ("bad1", "bad2", "good")]
    summary = run(orders, Store(tmp_path), LocalExecutor(1, work=work, preload="json"), Quiet())
    assert summary.bad_inputs == ["image x.jpg is truncated"]
    assert summary.exit_code == 2
    assert summary.statuses["done"] == 1


def test_two_drivers_share_a_folder_without_doing_anything_twice(tmp_path):
    names = [f"c{i}" for i in range(30)]
    drivers = [start(tmp_path, names), start(tmp_path, names)]
    assert [d.wait(60) for d in drivers] == [0, 0]
    assert sorted(r.cell.id for r in read_records(tmp_path)) == sorted(names)
    assert Counter((tmp_path / "started").read_text().split()) == Counter(names)


def wait_for_growth(path: Path, driver: subprocess.Popen) -> None:
    before = path.stat().st_size if path.exists() else 0
    while driver.poll() is None and (path.stat().st_size if path.exists() else 0) <= before:
        time.sleep(0.002)


@pytest.mark.slow
def test_a_hundred_kills_lose_no_finished_record_and_repeat_none(tmp_path):
    names = [f"c{i}" for i in range(2000)]
    records = tmp_path / "records.jsonl"
    driver = start(tmp_path, names)
    dice, seen, kills = random.Random(0), [], 0
    while kills < 100:
        if dice.random() < 0.2:
            time.sleep(dice.random() * 0.4)  # while it starts
        else:
            wait_for_growth(records, driver)
            time.sleep(dice.random() * 0.06)  # while it works
        assert driver.poll() is None, "the matrix ended before it was killed"
        os.killpg(driver.pid, signal.SIGKILL) if dice.random() < 0.5 else driver.kill()
        driver.wait()
        kills += 1
        now = [r.cell.id for r in read_records(tmp_path)] if records.exists() else []
        assert now[: len(seen)] == seen, "a finished record was lost"
        seen = now
        driver = start(tmp_path, names)
    driver.kill()
    driver.wait()
    names = names[: len(seen) + 50]
    assert start(tmp_path, names).wait(120) == 0
    finished = [r.cell.id for r in read_records(tmp_path)]
    assert len(seen) > 100, "the kills came before any work"
    assert len(set(finished)) == len(finished), "a finished record was repeated"
    assert set(names) <= set(finished)

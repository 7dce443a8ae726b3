"""Which executor is made of the command line's words, what it refuses, and where cells are placed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import vitq_here
from fake_cells import Quiet, on_a_card, order

from vitq.benchmarks.plan.devices import cards
from vitq.benchmarks.run.asks import Asks, asks_of
from vitq.benchmarks.run.executors import LocalExecutor
from vitq.benchmarks.run.runner import run
from vitq.benchmarks.run.store import Store
from vitq.errors import BadInputError


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--executor", "slurm"], "no executor is called 'slurm'"),
        (["--cpus", "2"], "--cpus is for --executor ray"),
        (["--address", "auto"], "--address is for --executor ray"),
        (["--memory", "4GB"], "--memory is for --executor ray"),
        (["--jobs", "many"], "--jobs is 'many'"),
        (["--split", "0"], "--split is '0': give a whole number of at least 1, or auto"),
        (["--executor", "ray", "--jobs", "-1"], "--jobs is '-1'"),
        (["--executor", "ray", "--cpus", "0"], "--cpus is 0: give a number above 0"),
        (["--executor", "ray", "--gpus", "1.5"], "--gpus is 1.5: give a whole number, or a share of one"),
        (["--executor", "ray", "--memory", "much"], "--memory is 'much': give bytes with a unit"),
        (["--executor", "ray", "--device", "cuda:1"], "names a card, which Ray picks"),
        (["--executor", "ray", "--device", "cuda", "--gpus", "0"], "--device cuda needs a GPU"),
    ],
)
def test_bad_words_are_one_line(words: list[str], says: str, tmp_path: Path) -> None:
    vitq_here("run", "smoke", "--dry-run", "-k", "fp32", "-o", tmp_path / "r", *words).refused(says)


def test_ray_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = vitq_here("run", "smoke", "-k", "fp32", "--executor", "ray", "-o", tmp_path / "r")
    done.refused("--executor ray needs Ray", "pip install 'vitq[ray]'")


def test_a_cell_asks_for_the_suites_threads_and_a_gpu_where_it_computes_on_one() -> None:
    assert asks_of(None, None, None, 4, "cpu") == Asks(4, 0, 0)
    assert asks_of(None, None, "1.5GiB", None, "cuda") == Asks(1, 1, 3 * 2**29)
    assert asks_of(0.5, 0.25, "800 MB", 4, "cuda") == Asks(0.5, 0.25, 800_000_000)
    assert str(Asks(1, 2, 4 * 10**9)) == "1 CPU, 2 GPUs and 4.0 GB of memory"


@pytest.mark.parametrize(
    ("asks", "machine", "count"),
    [
        (Asks(2), (8, 0, 1e9), 4),
        (Asks(1, 1), (8, 4, 1e9), 4),
        (Asks(1, 2), (8, 5, 1e9), 2),
        (Asks(1, 0.3), (16, 2, 1e9), 6),
        (Asks(1, 0, 4 * 10**8), (8, 0, 1e9), 2),
        (Asks(1, 1), (8, 0, 1e9), 0),
    ],
)
def test_how_many_cells_a_machine_holds(asks: Asks, machine: tuple[float, float, float], count: int) -> None:
    assert asks.fit_on(*machine) == count


def test_the_gpus_of_a_machine_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cards("cuda", 8) == ("0", "1", "2", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,6,7")
    assert cards("cuda", 8) == ("2", "3", "6", "7")
    assert cards("cuda", 1) == cards("cpu", 8) == cards("cuda:1", 8) == ()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert cards("cuda", 8) == ()


def test_cells_are_spread_over_the_gpus(tmp_path: Path) -> None:
    orders = [order(f"c{i}", tmp_path) for i in range(8)]
    executor = LocalExecutor(8, work=on_a_card, preload=["json"], cards=("0", "1", "2", "3"))
    run(orders, Store(tmp_path), executor, Quiet())
    assert sorted(path.read_text() for path in (tmp_path / "seen").iterdir()) == sorted("00112233")


@pytest.mark.slow
def test_a_run_of_many_cells_costs_the_driver_little_and_its_memory_stays() -> None:
    words = ["--executor", "local", "--workers", "8", "--cells", "200", "--seconds", "0", "--deaths", "0.1"]
    command = [sys.executable, "-m", "vitq.benchmarks.simulate_run", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = re.match(
        r"200 cells in .*; the driver took ([0-9.]+) ms of CPU a cell, its memory went from ([0-9]+) to ([0-9]+) MB; "
        r"([0-9]+) done, ([0-9]+) failed",
        done.stdout,
    )
    assert found is not None, done.stdout
    cost, before, after, good, bad = map(float, found.groups())
    assert good + bad == 200
    assert 3 <= bad <= 50
    assert cost < 100
    assert after - before < 30


def test_refused_asks_name_what_is_wrong() -> None:
    with pytest.raises(BadInputError, match="--cpus is nan"):
        asks_of(float("nan"), None, None, None, "cpu")

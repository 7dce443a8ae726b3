"""A Ray cluster of several machines, made up on this one: one leaves, and what is timed has a machine to itself."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'vitq[ray]'")

import fake_cells
import ray_cells
from fake_cells import order, timed_order
from ray_cells import PRELOAD, run_on

from vitq.benchmarks.run.asks import Asks
from vitq.benchmarks.run.cluster import Cluster
from vitq.benchmarks.run.ray_worker import Sent
from vitq.benchmarks.run.store import read_lines

pytestmark = pytest.mark.slow
MACHINES = 3


@pytest.fixture(scope="module")
def made() -> Iterator[Any]:
    """A head, which the driver is on, and two more machines of a CPU each."""
    from ray.cluster_utils import Cluster as MadeCluster

    size = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ray_cells.SUPPORT))
        made = MadeCluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
        for _ in range(MACHINES - 1):
            made.add_node(**size)
        made.wait_for_nodes()
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def cluster(made: Any) -> Iterator[Cluster]:
    joined = Cluster(made.address)
    yield joined
    joined.close()


def test_what_is_timed_has_a_machine_to_itself(cluster: Cluster, tmp_path: Path) -> None:
    orders = [timed_order(f"c{i}", tmp_path) for i in range(6)]
    kind = cluster.kind(Asks(0.5))
    assert (cluster.slots(Asks(0.5)), len(cluster.of_kind(kind, Asks()))) == (6, MACHINES)
    summary = run_on(cluster, orders, tmp_path, Sent(preload=PRELOAD, work=fake_cells.timed), kind=kind, asks=Asks(0.5))
    assert summary.statuses == {"done": 12}
    busy: Counter[str] = Counter()
    machines = set()
    for line in (tmp_path / "timing").read_text().split("\n")[:-1]:
        word, machine = line.split()
        busy[machine] += 1 if word == "begin" else -1
        machines.add(machine)
        assert busy[machine] in (0, 1), "two cells were timed on one machine at once"
    assert len(machines) > 1, "machines could time cells at once"


def test_a_machine_that_leaves_costs_no_cell(made: Any, cluster: Cluster, tmp_path: Path) -> None:
    leaving = threading.Timer(2, lambda: made.remove_node(made.list_all_nodes()[-1], allow_graceful=False))
    leaving.start()
    orders = [order(f"c{i}", tmp_path) for i in range(300)]
    summary = run_on(cluster, orders, tmp_path, Sent(preload=PRELOAD, work=fake_cells.work))
    leaving.join()
    assert summary.statuses == {"done": 300}
    assert len({line.key for line in read_lines(tmp_path) if line.kind != "cell"}) == 300

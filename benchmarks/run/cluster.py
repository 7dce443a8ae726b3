"""A Ray cluster as a run sees it: a local one that is started for it, or one that runs; its machines and what fits."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitq.benchmarks.plan.limits import cores
from vitq.benchmarks.run.asks import Asks, amounts
from vitq.benchmarks.run.provenance import machine_id
from vitq.benchmarks.run.ray_worker import look
from vitq.errors import BadInputError

LOCAL_STORE_BYTES = 256 * 2**20
"""For objects between processes of a local cluster; more is written to its temporary folder."""
LOOK_SECONDS = 120
REFRESH_SECONDS = 5.0
PATIENCE_SECONDS = 300.0
"""How long a run waits for a machine that can hold a cell, once the last one has left."""


@dataclass(frozen=True)
class Machine:
    """A machine of the cluster: what it has in all, its `kind` (see `machine_id`), and whether it sees the results."""

    id: str
    host: str
    cpus: float
    gpus: float
    memory: float
    kind: str = ""
    shared: bool = False

    def holds(self, asks: Asks) -> int:
        """How many cells fit on it."""
        return asks.fit_on(self.cpus, self.gpus, self.memory)


class Cluster:
    """The machines that are there now; asked anew every few seconds, for they come and leave."""

    def __init__(self, address: str | None = None, cpus: int | None = None) -> None:
        """Start a local cluster of so many CPUs (default: the cores), or join that at `address`."""
        self.ray = _ray()
        self._mark: Path | None = None
        self._looked: dict[str, tuple[str, bool]] = {}
        self._read_at, self._empty_since = 0.0, 0.0
        self._machines: list[Machine] = []
        _connect(self.ray, address, cpus or cores())

    def see(self, mark: Path) -> None:
        """Look which machines see the file that marks the results folder; BadInputError where one cannot run vitq."""
        self._mark = mark
        self._looked.clear()
        self._read_at = 0.0
        self.machines()

    def machines(self) -> Sequence[Machine]:
        """Those that are alive."""
        if time.monotonic() - self._read_at > REFRESH_SECONDS or not self._read_at:
            alive = [_machine(node) for node in self.ray.nodes() if node["Alive"]]
            self._look_at([each.id for each in alive if each.id not in self._looked])
            self._machines = [
                Machine(**{**vars(each), "kind": self._looked[each.id][0], "shared": self._looked[each.id][1]})
                for each in alive
                if each.id in self._looked
            ]
            self._read_at = time.monotonic()
        return self._machines

    def slots(self, asks: Asks) -> int:
        """Cells that fit on all machines at once; BadInputError where none has fitted for minutes."""
        count = sum(machine.holds(asks) for machine in self.machines())
        if count:
            self._empty_since = 0.0
        elif not self._empty_since:
            self._empty_since = time.monotonic()
        elif time.monotonic() - self._empty_since > PATIENCE_SECONDS:
            raise BadInputError(
                f"for {PATIENCE_SECONDS:.0f} s no machine of the Ray cluster could give a cell {asks}: "
                "finished records are kept; run again when one is there"
            )
        return count

    def check(self, asks: Asks) -> None:
        """BadInputError where no machine could ever hold a cell that asks for this."""
        if any(machine.holds(asks) for machine in self.machines()):
            return
        most = max(self.machines(), key=lambda each: (each.gpus, each.cpus, each.memory), default=None)
        there = f"the largest has {amounts(most.cpus, most.gpus, most.memory)}" if most else "it has none"
        raise BadInputError(
            f"no machine of the Ray cluster can give a cell {asks}: {there}; lower --cpus, --gpus or --memory"
        )

    def kind(self, asks: Asks) -> str:
        """The kind of machine that latency is measured on: the driver's own where the cluster has one, else the most
        frequent of those that hold a cell."""
        counted = Counter(machine.kind for machine in self.machines() if machine.holds(asks))
        own = machine_id()
        return own if own in counted else max(sorted(counted), key=counted.__getitem__, default=own)

    def of_kind(self, kind: str, asks: Asks) -> list[Machine]:
        """The machines of a kind that hold a cell."""
        return [machine for machine in self.machines() if machine.kind == kind and machine.holds(asks)]

    def on(self, machine: str) -> Any:
        """Ray's word for a place on this machine and no other."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(machine, soft=False)

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        self.ray.shutdown()

    def _look_at(self, nodes: Sequence[str]) -> None:
        """Learn kind and view of machines; at the start each must answer, one that joins later may come to nothing."""
        ask = self.ray.remote(max_retries=0, num_cpus=0)(look)
        asked = {node: ask.options(scheduling_strategy=self.on(node)).remote(self._mark) for node in nodes}
        for node, answer in asked.items():
            try:
                self._looked[node] = self.ray.get(answer, timeout=LOOK_SECONDS)
            except self.ray.exceptions.RayError as error:
                if not self._read_at:
                    raise BadInputError(
                        f"machine {node[:12]} of the Ray cluster does not answer as a worker of vitq "
                        f"({first_line(error)}): install the same vitq there, in the environment that Ray runs in"
                    ) from None


def _machine(node: Mapping[str, Any]) -> Machine:
    has = node["Resources"]
    return Machine(
        node["NodeID"], str(node["NodeManagerHostname"]), has.get("CPU", 0.0), has.get("GPU", 0.0),
        has.get("memory", 0.0),
    )  # fmt: skip


def _ray() -> Any:
    """Ray, told to keep to itself; BadInputError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # it prints of dead workers; a run says what they cost
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise BadInputError(
            f"--executor ray needs Ray, which cannot be imported ({error}): pip install 'vitq[ray]'"
        ) from None
    return ray


def _connect(ray: Any, address: str | None, cpus: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    local = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES}
    if address is not None and address.startswith("ray://"):
        raise BadInputError(
            "--address ray://... is Ray's client, which cannot tell how a run goes on: run vitq on a machine of the "
            "cluster and give HOST:PORT of its head"
        )
    try:
        if address is None:
            ray.init(address="local", **local, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError, AssertionError) as error:
        where = f"no Ray cluster answers at {address}" if address else "a local Ray cluster cannot be started"
        raise BadInputError(f"{where}: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """An error's type and what it says first, short."""
    cause = getattr(error, "cause", None) or error
    said = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
    return f"{type(cause).__name__}: {said[:200]}" if said else type(cause).__name__

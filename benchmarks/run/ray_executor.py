"""Cells on whatever a Ray cluster reaches: each a task that asks for CPUs, GPUs and memory, and tells as it goes on.

Ray places tasks and says when a worker is gone; who gets a dead worker's cell is the runner's to say, as for any other
executor. A cell that times something takes a machine as a whole, of the kind that its identity names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vitq.benchmarks.run.asks import Asks
from vitq.benchmarks.run.cluster import Cluster, Machine, first_line
from vitq.benchmarks.run.messages import Died, Event, Finished, Measured, Order
from vitq.benchmarks.run.ray_worker import Said, Sent, serve
from vitq.benchmarks.run.shipping import needed, write_all
from vitq.errors import BadInputError
from vitq.record import kind_of

ATTEMPTS = 3
_REASONS = {
    "OutOfMemoryError": "was killed by Ray, since its machine ran out of memory",
    "WorkerCrashedError": "died without a word: it was killed, or its machine ran out of memory",
    "NodeDiedError": "was lost with its machine, which left the cluster",
    "ObjectLostError": "was lost with its machine, which left the cluster",
    "OwnerDiedError": "was lost with its machine, which left the cluster",
    "TaskUnschedulableError": "could not be placed, since its machine left the cluster",
}


class RayExecutor:
    """Orders as Ray tasks on a cluster, each asking for the same; `jobs` bounds how many run at once."""

    attempts = ATTEMPTS

    def __init__(self, cluster: Cluster, asks: Asks, sent: Sent, kind: str = "", jobs: int | None = None) -> None:
        """`kind` is the kind of machine that latency is measured on."""
        self._cluster, self._ray, self._asks, self._sent = cluster, cluster.ray, asks, sent
        self._kind, self._jobs = kind, jobs
        self._serve = self._ray.remote(max_retries=0, num_returns="streaming", max_calls=0)(serve)
        self._running: dict[Any, tuple[Order, str | None]] = {}

    @property
    def slots(self) -> int:
        """As many cells as fit on the machines that are there now."""
        fit = self._cluster.slots(self._asks)
        return fit if self._jobs is None else min(fit, self._jobs)

    @property
    def alone(self) -> int:
        """A cell that times something a machine of the kind that is timed."""
        return max(1, len(self._cluster.of_kind(self._kind, self._asks)))

    def submit(self, order: Order) -> None:
        """Hand an order to Ray, which starts it where there is room."""
        order = replace(order, folder=order.folder.resolve())
        files = needed(order) if self._sent.ship else {}
        machine = self._free_machine() if any(kind_of(name) == "latency" for name in order.wanted) else None
        options = {"num_cpus": self._asks.cpus, "num_gpus": self._asks.gpus, "scheduling_strategy": "SPREAD"}
        if machine is not None:  # all its CPUs: nothing else is placed beside what is timed
            options |= {"num_cpus": machine.cpus, "scheduling_strategy": self._cluster.on(machine.id)}
        if self._asks.memory:
            options["memory"] = self._asks.memory
        told = self._serve.options(name=f"vitq {order.cell.id}", **options).remote(order, files, self._sent)
        self._running[told] = (order, machine.id if machine else None)

    def events(self, timeout: float) -> Iterator[Event]:
        """What workers have told since the last call, and which are gone."""
        if not self._running:
            return
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout, fetch_local=False)
        if ready:
            every = list(self._running)
            ready, _ = self._ray.wait(every, num_returns=len(every), timeout=0, fetch_local=False)
        for told in ready:
            event = self._next(told)
            if isinstance(event, (Finished, Died)):
                del self._running[told]
            yield event

    def close(self) -> None:
        """Stop all workers at once, and leave the cluster."""
        for told in self._running:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(told, force=True)
        self._running.clear()
        self._cluster.close()

    def _next(self, told: Any) -> Event:
        order, _ = self._running[told]
        try:
            said: Said = self._ray.get(next(told))
        except StopIteration:
            return Died(order, "its Ray worker ended without a word")
        except self._ray.exceptions.LocalRayletDiedError:
            raise BadInputError(
                "Ray has died on this machine, and with it the way to the cluster: finished records are kept; run again"
            ) from None
        except self._ray.exceptions.RayError as error:
            reason = _REASONS.get(type(error).__name__)
            return Died(order, f"its Ray worker {reason}" if reason else f"its Ray worker failed: {first_line(error)}")
        event: Event = replace(said.event, order=order)
        if isinstance(event, Measured):
            write_all(said.files, order.folder)
        return event

    def _free_machine(self) -> Machine | None:
        """One of the kind that is timed, on which we time nothing yet; None where all have left."""
        taken = [machine for _, machine in self._running.values()]
        every = self._cluster.of_kind(self._kind, self._asks)
        return min(every, key=lambda each: taken.count(each.id), default=None)

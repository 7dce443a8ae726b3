"""Which executor runs the cells, and how: from the words of the command line to what a plan and a run need of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vitq.benchmarks.plan.devices import cards, check_device
from vitq.benchmarks.plan.limits import cores, counted
from vitq.benchmarks.run.asks import Asks, asks_of
from vitq.benchmarks.run.executors import Executor, LocalExecutor, imports_of
from vitq.benchmarks.run.messages import Order
from vitq.benchmarks.run.shipping import marked
from vitq.benchmarks.run.splitting import Splitting
from vitq.errors import BadInputError
from vitq.words import nearest

LOCAL, RAY = EXECUTORS = ("local", "ray")
_AUTO = "auto"


@dataclass(frozen=True)
class Executing:
    """The words of the command line: `jobs` cells at once, `split` workers an evaluation, the rest for Ray alone.

    What is None was not given: one job on this machine, and on a cluster as many as fit. `site` is the site file as
    named, which workers look for on their own machines. A `dry` run is planned for any machine: it asks for nothing to
    be here.
    """

    executor: str = LOCAL
    jobs: str | None = None
    split: str = _AUTO
    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None
    memory: str | None = None
    site: Path | None = None
    dry: bool = False

    def check(self) -> None:
        """BadInputError for an executor that there is not, and for an option that it does not take."""
        if self.executor not in EXECUTORS:
            raise BadInputError(f"no executor is called {self.executor!r}; {nearest(self.executor, EXECUTORS)}")
        for name in ("address", "cpus", "gpus", "memory"):
            if self.executor == LOCAL and getattr(self, name) is not None:
                raise BadInputError(f"--{name} is for --executor ray: give both, or leave it out")
        self.count_jobs()
        self.parts()

    def check_device(self, device: str) -> None:
        """BadInputError for a device that is none, or that is not where cells run, unless the run is dry."""
        here = self.executor == LOCAL
        check_device(device, here=here and not self.dry)
        if not here and ":" in device:
            raise BadInputError(f"device {device} names a card, which Ray picks for each cell: give cuda")

    def count_jobs(self) -> int | None:
        """Cells at once; None for as many as fit. BadInputError for another word than a number or auto."""
        if self.executor == LOCAL:
            return counted("--jobs", self.jobs or "1", here=not self.dry)
        return None if self.jobs in (None, _AUTO) else _positive("--jobs", str(self.jobs))

    def parts(self) -> int | None:
        """Workers an evaluation is split over; None leaves it to the slots that are free."""
        return None if self.split == _AUTO else _positive("--split", self.split)


@dataclass(frozen=True)
class Setting:
    """What a plan needs of the executor, and how to make it.

    `threads` of torch are a cell's where neither suite nor site says, `machine` is the kind of machine that latency is
    measured on (this one where empty), `jobs` how many cells run at once, as far as it is known, and `gpus` how many
    GPUs, or which share of one, a cell has where it computes on GPUs.
    """

    threads: int
    machine: str
    jobs: int
    executor: Callable[[Sequence[Order], Path], Executor]
    gpus: float = 1.0


@contextmanager
def executing(asked: Executing, *, device: str, threads: int | None, trust: bool) -> Iterator[Setting]:
    """The setting of a run, as long as the context lasts; `threads` are those that suite or site give a cell.

    Joins the cluster of Ray, or starts one, unless the run is dry. BadInputError where there is none, or where no
    machine of it can give what a cell asks for.
    """
    asked.check()
    if asked.executor == LOCAL:
        yield _local(asked, device)
        return
    asks = asks_of(asked.cpus, asked.gpus, asked.memory, threads, device)
    if asked.dry:
        yield Setting(max(1, int(asks.cpus)), "", asked.count_jobs() or 1, _never, asks.gpus)
        return
    with ExitStack() as stack:
        yield _on_ray(asked, asks, trust, stack)


def _local(asked: Executing, device: str) -> Setting:
    jobs = asked.count_jobs() or 1

    def make(orders: Sequence[Order], folder: Path) -> Executor:  # noqa: ARG001
        local = LocalExecutor(jobs, preload=imports_of(orders), cards=cards(device, jobs))
        parts = asked.parts()
        return Splitting(local, parts) if parts else local

    return Setting(max(1, cores() // jobs), "", jobs, make)


def _on_ray(asked: Executing, asks: Asks, trust: bool, stack: ExitStack) -> Setting:
    from vitq.benchmarks.run.cluster import Cluster
    from vitq.benchmarks.run.ray_executor import RayExecutor
    from vitq.benchmarks.run.ray_worker import THREADS, Sent

    cluster = Cluster(asked.address)
    stack.callback(cluster.close)
    cluster.check(asks)
    kind = cluster.kind(asks)

    def make(orders: Sequence[Order], folder: Path) -> Executor:
        cluster.see(stack.enter_context(marked(folder)))
        ship = not all(machine.shared for machine in cluster.machines())
        sent = Sent(asked.site, trust, tuple(imports_of(orders)), os.environ.get(THREADS), ship)
        return Splitting(RayExecutor(cluster, asks, sent, kind, asked.count_jobs()), asked.parts())

    jobs = min(filter(None, (cluster.slots(asks), asked.count_jobs())))
    return Setting(max(1, int(asks.cpus)), kind, jobs, make, asks.gpus)


def _never(_orders: Sequence[Order], _folder: Path) -> Executor:
    raise AssertionError("a dry run runs nothing")


def _positive(what: str, word: str) -> int:
    if not word.isdecimal() or not 0 < int(word) < 100_000:
        raise BadInputError(f"{what} is {word!r}: give a whole number of at least 1, or {_AUTO}")
    return int(word)

"""Where cells run: a worker process each. The driver alone writes records; a worker needs nothing but its order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from typing import Any, Protocol

from vitq.benchmarks.run.messages import Event, Finished, Link, Measured, Order, Progressed
from vitq.methods.registry import METHODS
from vitq.record import Record, in_order, key_of, kind_of
from vitq.registry import OURS
from vitq.tasks.registry import TASKS

Work = Callable[[Order, Link], Finished]
WORKER = "vitq.benchmarks.run.worker"


class Executor(Protocol):
    """Runs orders, at most `slots` at once."""

    slots: int

    def submit(self, order: Order) -> None:
        """Start one order."""

    def events(self, timeout: float) -> Iterator[Event]:
        """What workers have told since the last call, waiting at most `timeout` seconds for the first."""

    def close(self) -> None:
        """Stop all workers at once."""


class LocalExecutor:
    """Processes on this machine, forked from a server that has imported once what all cells need (see `imports_of`).

    Each cell has a process of its own, so that its result cannot depend on the cells before it; forking from a clean
    server makes that cost milliseconds where a fresh interpreter would import torch for seconds.
    """

    def __init__(self, jobs: int = 1, work: Work | None = None, preload: Sequence[str] = (WORKER,)) -> None:
        self.slots = jobs
        self._work = work
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._running: dict[Connection, tuple[Order, Any]] = {}
        self._told: dict[str, set[str]] = {}
        self._stillborn: list[tuple[Order, str]] = []

    def submit(self, order: Order) -> None:
        """Start one order in a new process; where the server that forks them has died, a new one is started once."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_serve, args=(order, theirs, self._work), daemon=False)
        try:
            start_server()
            process.start()
        except (OSError, EOFError) as error:
            ours.close()
            self._stillborn.append((order, f"its process could not be started ({type(error).__name__}: {error})"))
            return
        finally:
            theirs.close()
        self._running[ours] = (order, process)

    def events(self, timeout: float) -> Iterator[Event]:
        """Progress, measurements and ends of workers; one that dies without a word ends in a failed record."""
        while self._stillborn:
            order, how = self._stillborn.pop()
            yield Measured(order, lost(order, set(), how))
            yield Finished(order)
        for connection in wait(list(self._running), timeout):
            assert isinstance(connection, Connection)
            yield from self._hear(connection)

    def _hear(self, connection: Connection) -> Iterator[Event]:
        order, process = self._running[connection]
        told = self._told.setdefault(order.cell.id, set())
        try:
            message = connection.recv()
        except (EOFError, OSError):
            join(process)
            yield Measured(order, lost(order, told, f"its worker process {how_it_ended(process)}"))
            message = Finished(order)
        if isinstance(message, Record):
            told.add(message.key)
            yield Measured(order, message)
        elif isinstance(message, Finished):
            join(process)
            connection.close()
            del self._running[connection], self._told[order.cell.id]
            yield message
        else:
            yield Progressed(order, *message)

    def close(self) -> None:
        """Kill what still runs."""
        for connection, (_, process) in self._running.items():
            process.kill()
            join(process)
            connection.close()
        self._running.clear()


EXECUTORS: dict[str, Callable[[int, Sequence[str]], Executor]] = {
    "local": lambda jobs, preload: LocalExecutor(jobs, preload=preload)
}


def imports_of(orders: Sequence[Order]) -> list[str]:
    """Modules of ours that the cells of a run import, and those libraries that take seconds to import.

    Importing them once in the server saves each cell's process that time. What another package offers is left to the
    process of its cell, which may fail alone; so are mmdet and mmsegmentation on a GPU, since importing them starts
    CUDA, which no forked process can use.
    """
    tasks = sorted({order.cell.task for order in orders})
    methods = sorted({order.cell.method for order in orders} | {"fp32"})
    ours = [TASKS.offer(name).module for name in tasks]
    offers = [METHODS.offer(name) for name in methods]
    ours += [f"{offer.module}.method" for offer in offers if offer.distribution == OURS]
    on_gpu = any(order.device != "cpu" for order in orders)
    dense = ["vitq.tasks.mm_registered"] if set(tasks) - {"classification"} and not on_gpu else []
    return [WORKER, "torch._inductor.config", "timm", *ours, *dense]


def start_server() -> None:
    """Start the fork server, if none runs, deaf to Ctrl-C, which a terminal sends to every process.

    Python has the server ignore the signal once it has imported what it preloads; until then it would die with a
    traceback. Only the main thread may set a handler; elsewhere `Process.start` starts the server.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def join(process: Any) -> None:
    """Wait for a process; one whose server was killed cannot be waited for, and is told apart by its exit code."""
    process.join(timeout=10)
    if process.is_alive():
        process.kill()
        process.join(timeout=10)


def how_it_ended(process: Any) -> str:
    """What became of a process that is gone, in words."""
    code = process.exitcode
    if code == 255:
        return "was lost with the server that started it"
    if code is None or code >= 0:
        return f"ended with code {code}"
    hint = "; signal 9 without a user is mostly the system running out of memory" if code == -9 else ""
    return f"was killed by signal {-code}{hint}"


def lost(order: Order, told: set[str], how: str) -> Record:
    """A failed record of the first wanted measurement that a dead worker had not told of."""
    own = order.identities.own
    names = [name for name in in_order(own) if name in order.wanted or not order.wanted]
    left = [name for name in names if key_of(own[name]) not in told]
    name = next(iter(left), names[-1] if names else next(iter(own)))
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Record(
        kind=kind_of(name),
        key=key_of(own[name]),
        identity=own[name],
        cell=order.cell,
        status="failed",
        error=how,
        provenance=order.provenance.model_copy(update={"finished": now, "device": order.device}),
    )


def _serve(order: Order, connection: Connection, work: Work | None) -> None:
    """Body of a worker process: do the order, tell the driver; end when the driver is gone."""
    become_worker()
    link = Link(lambda phase, done, total: connection.send((phase, done, total)), connection.send)
    try:
        connection.send((work or _cell_work())(order, link))
        connection.close()
    except BrokenPipeError:  # the driver is gone, and with it everyone who could want the record
        os._exit(1)


def become_worker() -> None:
    """Leave Ctrl-C to the driver, and end when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()


def _cell_work() -> Work:
    """What real cells do; imported in the worker, because the driver does without torch."""
    from vitq.benchmarks.run.worker import work_on

    return work_on


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
    os._exit(1)

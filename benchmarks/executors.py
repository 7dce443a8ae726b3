"""Where cells run: a worker process each. The driver alone writes records; a worker needs nothing but its order."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from vitq.benchmarks.order import Event, Finished, Order, Progressed, Send
from vitq.benchmarks.record import Record

Work = Callable[[Order, Send], Finished]


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
    """Processes on this machine, forked from a server that has imported torch once.

    Each cell has a process of its own, so that its result cannot depend on the cells before it; forking from a clean
    server makes that cost milliseconds where a fresh interpreter would import torch for seconds.
    """

    def __init__(self, jobs: int = 1, work: Work | None = None, preload: str = "vitq.benchmarks.worker") -> None:
        self.slots = jobs
        self._work = work
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([preload])
        self._running: dict[Connection, tuple[Order, Any]] = {}

    def submit(self, order: Order) -> None:
        """Start one order in a new process."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_serve, args=(order, theirs, self._work), daemon=False)
        process.start()
        theirs.close()
        self._running[ours] = (order, process)

    def events(self, timeout: float) -> Iterator[Event]:
        """Progress and ends of workers; a worker that dies without a word ends in a failed record."""
        for connection in wait(list(self._running), timeout):
            assert isinstance(connection, Connection)
            order, process = self._running[connection]
            try:
                message = connection.recv()
            except (EOFError, ConnectionResetError):
                process.join()
                message = Finished(order, _lost(order, process.exitcode))
            if isinstance(message, Finished):
                process.join()
                connection.close()
                del self._running[connection]
            yield message if isinstance(message, Finished) else Progressed(order, *message)

    def close(self) -> None:
        """Kill what still runs."""
        for connection, (_, process) in self._running.items():
            process.kill()
            process.join()
            connection.close()
        self._running.clear()


EXECUTORS: dict[str, Callable[[int], Executor]] = {"local": LocalExecutor}


def _lost(order: Order, code: int | None) -> Record:
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
    hint = "; signal 9 without a user is mostly the system running out of memory" if code == -9 else ""
    return Record(
        fingerprint=order.fingerprint,
        cell=order.cell,
        status="failed",
        seed=order.cell.seed,
        error=f"the worker process {how}{hint}",
        provenance=order.provenance.model_copy(update={"finished": datetime.now(timezone.utc).isoformat()}),
    )


def _serve(order: Order, connection: Connection, work: Work | None) -> None:
    """Body of a worker process: do the order, tell the driver; end when the driver is gone."""
    threading.Thread(target=_end_with_driver, daemon=True).start()
    try:
        connection.send((work or _cell_work())(order, lambda phase, done, total: connection.send((phase, done, total))))
        connection.close()
    except BrokenPipeError:  # the driver is gone, and with it everyone who could want the record
        os._exit(1)


def _cell_work() -> Work:
    """What real cells do; imported in the worker, because the driver does without torch."""
    from vitq.benchmarks.worker import work_on

    return work_on


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
    os._exit(1)

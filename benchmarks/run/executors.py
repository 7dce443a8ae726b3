"""Where cells run: a worker process each. The driver alone writes records; a worker needs nothing but its order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, cast

from vitq.benchmarks.run.messages import Died, Event, Finished, Link, Measured, Order, PartDone, Progressed
from vitq.benchmarks.run.processes import process_context, start_server
from vitq.methods.registry import METHODS
from vitq.record import Record
from vitq.registry import OURS
from vitq.tasks.registry import TASKS

Work = Callable[[Order, Link], Finished]
WORKER = "vitq.benchmarks.run.worker"


VISIBLE = "CUDA_VISIBLE_DEVICES"


class Executor(Protocol):
    """Runs orders, at most `slots` at once.

    `alone` is how many of those that time something may run at once, each with nothing of ours beside it: one a
    machine. `attempts` is how many workers a cell may cost: one that dies gives its cell to another until then.
    """

    @property
    def slots(self) -> int:
        """Cells at once; it may change while a run goes on, as machines come and leave."""

    @property
    def alone(self) -> int:
        """Cells that time something at once."""

    @property
    def attempts(self) -> int:
        """Workers that a cell may cost."""

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

    alone = 1
    attempts = 1

    def __init__(
        self,
        jobs: int = 1,
        work: Work | None = None,
        preload: Sequence[str] = (WORKER,),
        cards: Sequence[str] = (),
    ) -> None:
        """`cards` are GPUs to place cells on, as CUDA_VISIBLE_DEVICES names them; none: a cell sees what we see."""
        self.slots = jobs
        self._work = work
        self._cards: dict[str, int] = dict.fromkeys(cards, 0)
        self._context: Any = process_context(preload)
        self._running: dict[Connection, tuple[Order, Any, str | None]] = {}
        self._stillborn: list[tuple[Order, str]] = []

    def submit(self, order: Order) -> None:
        """Start one order in a new process; where the server that forks them has died, a new one is started once."""
        ours, theirs = self._context.Pipe(duplex=False)
        card = min(self._cards, key=self._cards.__getitem__, default=None)
        process = self._context.Process(target=_serve, args=(order, theirs, self._work, card), daemon=False)
        try:
            start_server()
            process.start()
        except (OSError, EOFError) as error:
            ours.close()
            self._stillborn.append((order, f"its process could not be started ({type(error).__name__}: {error})"))
            return
        finally:
            theirs.close()
        if card is not None:
            self._cards[card] += 1
        self._running[ours] = (order, process, card)

    def events(self, timeout: float) -> Iterator[Event]:
        """Progress, measurements and ends of workers, and that one has died without a word."""
        while self._stillborn:
            yield Died(*self._stillborn.pop())
        for connection in wait(list(self._running), timeout):
            yield self._hear(cast("Connection", connection))  # of another class on Windows, with the same methods

    def _hear(self, connection: Connection) -> Event:
        order, process, _ = self._running[connection]
        try:
            message = connection.recv()
        except (EOFError, OSError):
            self._end(connection)
            return Died(order, f"its worker process {how_it_ended(process)}")
        if isinstance(message, Record):
            return Measured(order, message)
        if isinstance(message, Finished):
            self._end(connection)
            return message
        return Progressed(order, *message) if isinstance(message, tuple) else PartDone(order, message)

    def _end(self, connection: Connection) -> None:
        _, process, card = self._running.pop(connection)
        join(process)
        connection.close()
        if card is not None:
            self._cards[card] -= 1

    def close(self) -> None:
        """Kill what still runs."""
        for connection, (_, process, _) in list(self._running.items()):
            process.kill()
            self._end(connection)


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


def _serve(order: Order, connection: Connection, work: Work | None, card: str | None) -> None:
    """Body of a worker process: do the order, tell the driver; end when the driver is gone."""
    become_worker()
    if card is not None:  # before anything asks CUDA what is there
        os.environ[VISIBLE] = card
    link = Link(lambda phase, done, total: connection.send((phase, done, total)), connection.send, connection.send)
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

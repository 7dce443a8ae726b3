"""Reading items by threads some steps ahead of whoever uses them, in order; read without torch."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from vitq.datasets.listing import Item

Thing = TypeVar("Thing")


def default_workers() -> int:
    """One a core that this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores)


def in_order(start: Callable[[Item], Future[Thing]], items: Sequence[Item], ahead: int) -> Iterator[Thing]:
    """What was started of each item, in the order of `items`, never more than `ahead` of them waiting."""
    reading: deque[Future[Thing]] = deque()
    for item in items:
        if len(reading) >= ahead:
            yield reading.popleft().result()
        reading.append(start(item))
    while reading:
        yield reading.popleft().result()


def read_ahead(
    read: Callable[[Item], Thing], items: Sequence[Item], ahead: int, workers: int | None
) -> Iterator[Thing]:
    """`read` of each item in order, by `workers` threads (0: the caller's own; None: one a core, at most 8).

    The threads are gone when the iterator ends or is left.
    """
    wanted = min(default_workers() if workers is None else workers, len(items))
    if wanted < 1:
        yield from map(read, items)
        return
    with ThreadPoolExecutor(wanted, "vitq-reader") as pool:
        try:
            yield from in_order(lambda item: pool.submit(read, item), items, ahead)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

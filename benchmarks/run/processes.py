"""How processes of ours are made: forked from a clean server, or started anew where the system cannot fork (Windows).

Either way a process has imported nothing by accident, and its result cannot depend on what its parent did. A new
interpreter imports torch for seconds, which a forked one has done already.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Sequence
from multiprocessing.context import BaseContext

FORKSERVER, SPAWN = "forkserver", "spawn"


def can_fork() -> bool:
    """Whether this system has a fork server."""
    return FORKSERVER in multiprocessing.get_all_start_methods()


def process_context(preload: Sequence[str]) -> BaseContext:
    """The fork server, which imports `preload` once; new interpreters where there is none."""
    if not can_fork():
        return multiprocessing.get_context(SPAWN)
    context = multiprocessing.get_context(FORKSERVER)
    context.set_forkserver_preload(list(preload))
    return context


def start_server() -> None:
    """Start the fork server, if there can be one and none runs, deaf to Ctrl-C.

    A terminal sends that to every process. Python has the server ignore it once it has imported what it preloads; until
    then it would die with a traceback. Only the main thread may set a handler; elsewhere `Process.start` starts the
    server.
    """
    if threading.current_thread() is not threading.main_thread() or not can_fork():
        return
    from multiprocessing.forkserver import ensure_running

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)

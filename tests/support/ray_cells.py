"""Drivers that run made cells on a local Ray cluster, as processes of their own; and what is left of them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import psutil

from vitq.benchmarks.run.asks import Asks
from vitq.benchmarks.run.messages import Order
from vitq.benchmarks.run.ray_worker import Sent
from vitq.benchmarks.run.runner import Summary, run
from vitq.benchmarks.run.store import Store

SUPPORT = Path(__file__).parent
PRELOAD = ("fake_cells", "vitq.benchmarks.run.executors")


def environment() -> dict[str, str]:
    """Ray's workers find what stands for a cell beside this file."""
    return {**os.environ, "PYTHONPATH": str(SUPPORT)}


def run_on(
    cluster: object, orders: Sequence[Order], folder: Path, sent: Sent, *, kind: str = "", asks: Asks | None = None
) -> Summary:
    """Run orders on a cluster that stays."""
    from fake_cells import Quiet

    from vitq.benchmarks.run.ray_executor import RayExecutor

    class Staying(RayExecutor):
        def close(self) -> None:
            pass

    return run(orders, Store(folder), Staying(cluster, asks or Asks(), sent, kind), Quiet())


def start(folder: Path, count: int, *, cpus: int = 2) -> subprocess.Popen[bytes]:
    """A driver of so many made cells, with a cluster of its own, in a session of its own."""
    code = f"""
        import sys
        sys.path.insert(0, {str(SUPPORT)!r})
        from pathlib import Path
        import fake_cells as t
        from vitq.benchmarks.run.asks import Asks
        from vitq.benchmarks.run.cluster import Cluster
        from vitq.benchmarks.run.ray_executor import RayExecutor
        from vitq.benchmarks.run.ray_worker import Sent
        from vitq.benchmarks.run.runner import run
        from vitq.benchmarks.run.store import Store
        folder = Path({str(folder)!r})
        orders = [t.order(f"c{{i}}", folder) for i in range({count})]
        executor = RayExecutor(Cluster(cpus={cpus}), Asks(), Sent(preload={PRELOAD!r}, work=t.work))
        run(orders, Store(folder), executor, t.Quiet())
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(words, start_new_session=True, env=environment(), stderr=subprocess.DEVNULL)


def of_session(session: int) -> list[psutil.Process]:
    """The processes that a driver and its cluster are made of, by the session that the driver began."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def command(process: psutil.Process) -> str:
    """A process's command line; empty once it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def ray_workers(session: int) -> list[psutil.Process]:
    """Its Ray workers."""
    return [each for each in of_session(session) if re.match("ray::(IDLE|serve|vitq|look)", command(each))]


def end(session: int) -> None:
    """Kill what is left of a driver and its cluster."""
    for process in of_session(session):
        with contextlib.suppress(psutil.Error):
            process.kill()

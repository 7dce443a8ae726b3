"""What Linux has and others lack: without it everything works, or says that it could not be told."""

from __future__ import annotations

import ast
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from fake_cells import Quiet, order, work

from vitq.benchmarks.measure import around, timing
from vitq.benchmarks.run import processes, provenance
from vitq.benchmarks.run.executors import LocalExecutor
from vitq.benchmarks.run.runner import run
from vitq.benchmarks.run.store import Store
from vitq.methods.toolkit import devices

ROOT = Path(__file__).resolve().parents[3]
UNIX_ALONE = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "posix", "syslog", "readline"}


@pytest.fixture
def no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows answers."""
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])


@pytest.mark.usefixtures("no_fork")
def test_cells_run_in_new_interpreters_where_nothing_can_fork(tmp_path: Path) -> None:
    assert processes.process_context(["vitq.no_such_module"]).get_start_method() == "spawn"
    before = signal.getsignal(signal.SIGINT)
    processes.start_server()
    assert signal.getsignal(signal.SIGINT) == before
    executor = LocalExecutor(2, work, preload=())
    store = Store(tmp_path)
    run([order(name, tmp_path) for name in ("one", "die two", "three")], store, executor, Quiet())
    ended = {row.cell.id: row.status for row in store.rows()}
    assert sorted((tmp_path / "started").read_text().split("\n")[:3]) == ["die two", "one", "three"]
    assert ended == {"one": "done", "die two": "failed", "three": "done"}


def test_the_peak_of_memory_without_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.peak_memory_mb("cpu") > 10
    monkeypatch.setitem(sys.modules, "resource", None)
    windows = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123_000_000))
    monkeypatch.setattr(psutil, "Process", lambda: windows)
    assert devices.peak_memory_mb("cpu") == 123.0


def test_cores_cannot_be_held_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    with around.held_to(1) as cores:
        assert cores is None


def test_without_proc_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "none")
    for cached in (provenance.cpu_facts, provenance.cpu_name, provenance.cpu_flags):
        monkeypatch.setattr(provenance, cached.__name__, cached.__wrapped__)
    assert provenance.cpu_facts() == {}
    assert provenance.cpu_name()
    assert provenance.cpu_flags() == ""

    class Nowhere(type(Path())):  # type: ignore[misc]
        def _gone(self, *_: Any, **__: Any) -> None:
            raise FileNotFoundError(str(self))

        read_text = write_text = iterdir = _gone

    monkeypatch.setattr(timing, "Path", Nowhere)
    monkeypatch.setattr(around, "Path", Nowhere)
    monkeypatch.setattr(timing.ctypes, "CDLL", lambda _: (_ for _ in ()).throw(TypeError()))
    assert timing.memory_of(lambda _: None, torch.zeros(1), torch.device("cpu")) is None
    with around.held_to(1):
        pass


def test_no_module_imports_what_windows_lacks() -> None:
    """At its top, where importing it would fail; within a function it is caught."""
    rooms = [ROOT / name for name in ("src", "benchmarks", "methods", "datasets", "tasks", "reports")]
    found = []
    for path in (path for room in rooms for path in room.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}:{node.lineno} {name}" for name in names if name in UNIX_ALONE]
    assert found == []


WINDOWS = """
import importlib, multiprocessing, os, signal, sys
import filelock, psutil, torch, timm, typer  # which know the system that they are on
for name in {gone!r}:
    sys.modules[name] = None
multiprocessing.get_all_start_methods = lambda: ["spawn"]
for name in ("sched_getaffinity", "sched_setaffinity", "getloadavg", "fork", "uname", "getuid", "sysconf"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1"):
    delattr(signal, name)
for name in {modules!r}:
    importlib.import_module(name)
"""


def test_every_module_of_a_run_is_imported_without_what_windows_lacks() -> None:
    modules = [
        f"vitq.{folder.replace('/', '.')}.{path.stem}"
        for folder in ("benchmarks/run", "benchmarks/plan", "benchmarks/gate", "benchmarks/measure", "benchmarks/cli")
        for path in sorted((ROOT / folder).glob("*.py"))
        if path.stem != "__init__" and not path.stem.startswith("ray_")
    ]
    script = WINDOWS.format(gone=sorted(UNIX_ALONE - {"posix"}), modules=modules)
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""Provenance: what a record says about source, versions and machine."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from vitq.benchmarks.run import provenance


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    return subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "minmax.py").write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    provenance.source_state.cache_clear()
    return tmp_path


def test_a_clean_checkout_gives_its_commit(checkout: Path) -> None:
    assert provenance.source_state(checkout) == (git(checkout, "rev-parse", "HEAD").strip(), False)


@pytest.mark.parametrize(
    ("file", "dirty"),
    [("methods/minmax/__init__.py", True), ("methods/new.py", True), ("results/records.jsonl", False)],
)
def test_dirty_means_that_the_source_differs(checkout: Path, file: str, dirty: bool) -> None:
    (checkout / file).parent.mkdir(exist_ok=True)
    (checkout / file).write_text("x = 2\n")
    assert provenance.source_state(checkout)[1] is dirty


def test_a_wheel_inside_another_repository_has_no_commit(checkout: Path) -> None:
    site_packages = checkout / "site-packages"
    site_packages.mkdir()
    assert provenance.source_state(site_packages) == (None, None)


def test_a_broken_checkout_has_no_commit(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert provenance.source_state(tmp_path) == (None, None)


def test_a_repository_without_a_commit_is_dirty_and_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "minmax.py").write_text("")
    assert provenance.source_state(tmp_path) == (None, True)


def test_collect_names_this_run() -> None:
    found = provenance.collect("vitq run smoke")
    assert found.command == "vitq run smoke"
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "timm", "numpy"} <= found.packages.keys()
    assert found.cpu
    assert len(found.machine) == 12
    assert abs((datetime.now(timezone.utc) - datetime.fromisoformat(found.finished)).total_seconds()) < 60


def test_the_machine_stays_the_same_and_differs_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    here = provenance.machine_id()
    provenance.machine_id.cache_clear()
    assert provenance.machine_id() == here
    provenance.machine_id.cache_clear()
    monkeypatch.setattr(provenance, "cpu_name", lambda: "another CPU")
    assert provenance.machine_id() != here
    provenance.machine_id.cache_clear()


def test_a_gpu_is_named_by_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'NVIDIA RTX 1'\necho 'NVIDIA RTX 2'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    provenance.gpu_name.cache_clear()
    assert provenance.gpu_name() == "NVIDIA RTX 1, NVIDIA RTX 2"
    driver.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    provenance.gpu_name.cache_clear()
    assert provenance.gpu_name() is None
    provenance.gpu_name.cache_clear()


def test_a_second_collect_asks_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    provenance.collect("first")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("git or the driver was asked again"))
    assert provenance.collect("second").command == "second"


def test_torch_is_not_imported() -> None:
    code = (
        "import sys; from vitq.benchmarks.run import provenance; provenance.collect(''); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

"""The gate on five pull requests: four that must turn red, each for its reason, and one that must stay green.

Each is an edit of the sources in a copy of the package, and a real run of a small suite on the embedded digits by that
copy, held to a baseline that was made of the copy before the edit, and to that of another machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from rows import write_results
from typer.testing import CliRunner

from vitq.benchmarks.cli import app
from vitq.benchmarks.gate import GateResult, Policy, gate, read_baseline
from vitq.benchmarks.gate.baseline import write_baseline
from vitq.benchmarks.run.store import read_lines, read_rows
from vitq.record import Provenance

pytest.importorskip("onnx", reason="the kernel of these runs is onnxruntime's: pip install 'vitq[runtimes]'")
pytest.importorskip("onnxruntime", reason="the kernel of these runs is onnxruntime's: pip install 'vitq[runtimes]'")

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("methods", "datasets", "tasks", "benchmarks", "reports")
SUITE = """
name: changes
tasks: [{task: classification, dataset: digits, models: [digits_vit]}]
bits: [W4A4]
calibration: {images: 8, batch: 8}
latency: {batch: 8, runs: 40, warmup: 2, threads: 1, runtimes: [onnxruntime]}
threads: 1
methods: [minmax]
"""
LIMIT = 300
ALLOWED = Policy(slowdown=3)
"""The slow change takes ten times as long; what else a shared machine does is not to turn the others red."""


class Change(NamedTuple):
    """A pull request: what it replaces in which file, its verdicts, on which quantities, and surely on which."""

    file: str
    old: str
    new: str
    verdicts: set[str]
    quantities: set[str]
    surely: str
    elsewhere: bool = True


CHANGES = {
    "an off-by-one in a quantizer": Change(
        "methods/toolkit/observers.py",
        "levels = 2**bits - 1\n",
        "levels = 2**bits - 3\n",
        {"worse"},
        {"top1", "top5"},
        "top1",
    ),
    "a dropped bias in accounting": Change(
        "benchmarks/measure/accounting.py",
        "sum(tensor.bytes for tensor in stored)",
        'sum(tensor.bytes for tensor in stored if not tensor.name.endswith("bias"))',
        {"changed"},
        {"size packed_mb"},
        "size packed_mb",
    ),
    "a slower kernel": Change(
        "benchmarks/runtimes/onnx_runtime.py",
        "        return torch.from_numpy(self.session.run(",
        "        for _ in range(9):\n            self.session.run(None, {self.input: images.cpu().numpy()})\n"
        "        return torch.from_numpy(self.session.run(",
        {"slower"},
        {f"{form}:onnxruntime, batch 8, 1 threads, cpu" for form in ("int8-kernel", "fp32")},
        "int8-kernel:onnxruntime, batch 8, 1 threads, cpu",
        elsewhere=False,
    ),
    "a changed crop": Change(
        "datasets/digit_scans.py",
        "np.mgrid[0:side, 0:side].astype(np.int32) * 2 - (side - 1)",
        "np.mgrid[0:side, 0:side].astype(np.int32) * 2 - (side - 9)",
        {"worse"},
        {"top1", "top5"},
        "top1",
    ),
    "a harmless refactor": Change(
        "methods/toolkit/observers.py",
        "    step = (high - low) / levels\n",
        "    width = high - low\n    step = width / levels\n",
        set(),
        set(),
        "",
    ),
}


def copied(to: Path) -> Path:
    """The package as an importer finds it, every room inside."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "vitq", to / "vitq", ignore=ignored)
    for room in ROOMS:
        shutil.copytree(ROOT / room, to / "vitq" / room, ignore=ignored)
    return to


def run_by(package: Path, results: Path, work: Path) -> Path:
    """`vitq run` by that copy of the package, and no other."""
    (work / "changes.yaml").write_text(SUITE)
    env = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    where = "import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec('vitq').origin).parents[1])"
    found = subprocess.run([sys.executable, "-c", where], cwd=work, env=env, check=True, capture_output=True, text=True)
    assert Path(found.stdout.strip()) == package
    command = [sys.executable, "-m", "vitq", "run", "changes.yaml", "--results", results, "--limit", LIMIT, "--quiet"]
    done = subprocess.run([*map(str, command)], cwd=work, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return results


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, and the baseline of its run."""
    work = tmp_path_factory.mktemp("before")
    results = run_by(copied(work / "package"), work / "results", work)
    write_baseline(results, work / "baseline", latency=True)
    return work


TIMED = "a slower kernel"
"""Judged by the clock, which tests that run beside others cannot be: it is tried at night."""


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.long if name == TIMED else pytest.mark.slow) for name in CHANGES],
    scope="module",
)
def changed(request: pytest.FixtureRequest, before: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A change's name and the results of the package with it."""
    work = tmp_path_factory.mktemp("changed")
    change, package = CHANGES[request.param], shutil.copytree(before / "package", work / "package")
    file = package / "vitq" / change.file
    text = file.read_text(encoding="utf-8")
    assert text.count(change.old) == 1, "the source that this change edits is another one now"
    file.write_text(text.replace(change.old, change.new), encoding="utf-8")
    return request.param, run_by(package, work / "results", work)


def of_another_machine(baseline: Path, to: Path) -> Path:
    """The same baseline as another machine with another CPU and torch would have made it."""
    shutil.copytree(baseline, to)
    lines = [line.model_copy(update={"provenance": elsewhere(line.provenance)}) for line in read_lines(baseline)]
    return write_results(to, *lines)


def elsewhere(where: Provenance) -> Provenance:
    packages = {**where.packages, "torch": "2.6.0"}
    return where.model_copy(update={"machine": "another", "cpu": where.cpu and "Another CPU", "packages": packages})


def judged(baseline: Path, results: Path) -> GateResult:
    return gate(read_baseline(baseline), read_rows(results), ALLOWED)


def holds(result: GateResult, change: Change) -> None:
    found = {row.verdict for row in result.regressions}
    assert found == change.verdicts, result.render()
    found = {row.quantity for row in result.regressions}
    assert found <= change.quantities, result.render()
    assert not found or change.surely in found, result.render()
    assert result.exit_code == (1 if change.verdicts else 0)


def test_four_turn_red_and_one_stays_green(changed: tuple[str, Path], before: Path, tmp_path: Path) -> None:
    name, results = changed
    change, result = CHANGES[name], judged(before / "baseline", results)
    holds(result, change)
    there = judged(of_another_machine(before / "baseline", tmp_path / "there"), results)
    assert "made elsewhere: other machine" in there.render()
    holds(there, change if change.elsewhere else change._replace(verdicts=set()))
    words = ["gate", str(before / "changes.yaml"), "--baseline", str(before / "baseline"), "--results", str(results)]
    typed = CliRunner().invoke(app, [*words, "--slowdown", "3"])
    assert typed.exit_code == result.exit_code, typed.output

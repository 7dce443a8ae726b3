"""The action, the workflow to call and the release: their shape, their inputs, and their scripts run here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FILES = [ROOT / "action.yml", *WORKFLOWS]
BASH = shutil.which("bash")
SUITE = """
name: tiny
tasks: [{task: classification, dataset: digits, models: [digits_vit]}]
bits: [W8A8]
calibration: {images: 8, batch: 8}
methods: [minmax]
"""
needs_bash = pytest.mark.skipif(BASH is None or sys.platform == "win32", reason="needs bash, as a runner has")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def action() -> Any:
    return read(ROOT / "action.yml")


def steps_of(content: Any) -> list[dict[str, Any]]:
    jobs = content.get("jobs", {"runs": content.get("runs", {})})
    return [step for job in jobs.values() for step in job.get("steps", [])]


def step(name: str) -> dict[str, Any]:
    (found,) = [each for each in steps_of(action()) if each.get("name") == name]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_has_the_shape_that_github_publishes(path: Path) -> None:
    pytest.importorskip("check_jsonschema", reason="the schemas come with check-jsonschema")
    schema = "vendor.github-actions" if path.name == "action.yml" else "vendor.github-workflows"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_input_is_declared_documented_and_used(path: Path) -> None:
    content = read(path)
    triggers = content.get(True) if isinstance(content.get(True), dict) else {}  # YAML reads the key `on` as true
    declared = content.get("inputs") or (triggers.get("workflow_call") or {}).get("inputs", {})
    used = set(re.findall(r"inputs\.([a-z-]+)", path.read_text(encoding="utf-8")))
    assert used == set(declared)
    assert all(len(each.get("description", "")) > 8 for each in declared.values())


def test_what_the_workflow_hands_to_the_action_is_known_there() -> None:
    (call,) = [each for each in steps_of(read(WORKFLOWS[0].with_name("vitq-gate.yml"))) if "./" in each.get("uses", "")]
    assert set(call["with"]) <= set(action()["inputs"])
    assert all(f"inputs.{name} " in value for name, value in call["with"].items())


def test_what_the_workflow_does_not_say_is_as_in_the_action() -> None:
    called = read(WORKFLOWS[0].with_name("vitq-gate.yml"))[True]["workflow_call"]["inputs"]
    own = {name: each.get("default", "") for name, each in action()["inputs"].items()}
    both = set(called) & set(own)
    assert len(both) > 10
    assert {name: str(called[name]["default"]).lower() for name in both} == {name: own[name] for name in both}


def test_a_pull_request_is_gated_by_three_lines() -> None:
    (job,) = read(ROOT / ".github" / "workflows" / "gate.yml")["jobs"].values()
    checkout, gate = job["steps"]
    assert checkout["uses"].startswith("actions/checkout@")
    assert gate == {"uses": "./", "with": {"suite": "smoke", "baseline": "baselines/smoke"}}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_script_holds_an_expression(path: Path) -> None:
    """A branch named `$(rm -rf .)` would run: what others name comes by variables alone; a matrix is ours."""
    scripts = [str(each["run"]) for each in steps_of(read(path)) if "run" in each]
    assert [text for text in scripts if re.search(r"\$\{\{(?! *matrix\.)", text)] == []


@needs_bash
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_scripts_are_bash(path: Path) -> None:
    for each in steps_of(read(path)):
        if "run" in each:
            done = subprocess.run([str(BASH), "-n"], input=each["run"], text=True, capture_output=True, check=False)
            assert done.returncode == 0, f"{each.get('name')}: {done.stderr}"


def test_nothing_is_uploaded_without_a_tag() -> None:
    release = read(ROOT / ".github" / "workflows" / "release.yml")
    writing = [name for name, job in release["jobs"].items() if "write" in (job.get("permissions") or {}).values()]
    assert writing == ["publish"]
    assert release["permissions"] == {"contents": "read"}
    publish = release["jobs"]["publish"]
    assert publish["if"] == "github.event_name == 'push' && startsWith(github.ref, 'refs/tags/v')"
    assert publish["needs"] == "check"
    assert release["jobs"]["check"]["needs"] == "build"
    others = [each for name, job in release["jobs"].items() if name != "publish" for each in job["steps"]]
    assert not any("publish" in each.get("uses", "") or "gh release" in each.get("run", "") for each in others)


class Runner:
    """A stand-in of GitHub's runner: a folder, variables, and the scripts as it starts them."""

    def __init__(self, folder: Path, tools: dict[str, str] | None = None) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()
        own = {
            "vitq": f'exec "{sys.executable}" -m vitq "$@"',
            "python": f'exec "{sys.executable}" "$@"',
        }
        for name, text in {**own, **(tools or {})}.items():
            (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
            (self.bin / name).chmod(0o755)
        (folder / "suite.yaml").write_text(SUITE)

    def run(self, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a step's script with every variable that the step names; those not given are empty."""
        given = {**dict.fromkeys(step(name).get("env", {}), ""), **variables}
        own = {"GITHUB_OUTPUT": f"{self.folder}/output", "GITHUB_STEP_SUMMARY": f"{self.folder}/summary.md"}
        env = {**os.environ, **own, **given, "PATH": f"{self.bin}:{os.environ['PATH']}", "GITHUB_ACTIONS": "true"}
        command = [str(BASH), "--noprofile", "--norc", "-eo", "pipefail", "-c", step(name)["run"]]
        return subprocess.run(command, cwd=self.folder, env=env, check=False, capture_output=True, text=True)

    @property
    def outputs(self) -> dict[str, str]:
        lines = (self.folder / "output").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


@needs_bash
@pytest.mark.slow
def test_record_then_gate_then_a_change_turns_red(tmp_path: Path) -> None:
    """The steps one after the other, as a runner takes them, on a suite of one cell."""
    runner = Runner(tmp_path)
    of = {"SUITE": "suite.yaml", "MORE": "--limit 50 --quiet"}
    assert runner.run("Run the suite", RESULTS="first", **of).returncode == 0
    done = runner.run("Make a baseline", SUITE="suite.yaml", RESULTS="first", CODE="0", TO=f"{tmp_path}/base")
    assert done.returncode == 0, done.stderr
    assert runner.run("Run the suite", RESULTS="second", **of).returncode == 0
    gate = {"SUITE": "suite.yaml", "RESULTS": "second", "BASELINE": f"{tmp_path}/base"}
    done = runner.run("Gate", **gate)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "::notice file=suite.yaml,title=vitq gate tiny::good: 1 of 1" in done.stdout
    assert runner.outputs == {"exit-code": "0", "junit": "second/gate.xml"}
    assert (tmp_path / "second" / "gate.xml").is_file()
    assert "## vitq gate tiny: passed" in (tmp_path / "summary.md").read_text()
    lines = (tmp_path / "base" / "records.jsonl").read_text()
    (tmp_path / "base" / "records.jsonl").write_text(re.sub(r'"macs":(\d+)', '"macs":1', lines))
    done = runner.run("Gate", **gate)
    assert done.returncode == 1
    assert "::error file=suite.yaml,title=vitq gate tiny%3A minmax/" in done.stdout
    assert runner.outputs["exit-code"] == "1"
    assert "## vitq gate tiny: failed" in (tmp_path / "summary.md").read_text()


@needs_bash
@pytest.mark.parametrize(("code", "ends"), [(0, 0), (2, 2), (3, 0), (130, 130)])
def test_cells_that_failed_are_left_to_the_gate_and_all_else_ends_the_job(code: int, ends: int, tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"vitq": f'echo "$@" >> asked; exit {code}'})
    words = {"SUITE": "a b.yaml", "RESULTS": "r", "CELLS": "not swin", "SITE": "s.toml", "MORE": "--jobs auto"}
    assert runner.run("Run the suite", **words).returncode == ends
    assert runner.outputs == {"exit-code": str(code)}
    assert (tmp_path / "asked").read_text() == "run a b.yaml --results r -k not swin --site s.toml --jobs auto\n"


@needs_bash
def test_no_baseline_is_an_error_and_never_green(tmp_path: Path) -> None:
    done = Runner(tmp_path).run("Gate", SUITE="suite.yaml", RESULTS="r")
    assert done.returncode == 2
    assert done.stdout.startswith("::error title=vitq gate::give a baseline")


@needs_bash
def test_a_baseline_that_lacks_failed_cells_is_not_recorded(tmp_path: Path) -> None:
    done = Runner(tmp_path).run("Make a baseline", SUITE="suite.yaml", RESULTS="r", CODE="3", TO=f"{tmp_path}/base")
    assert done.returncode == 3
    assert not (tmp_path / "base").exists()


@needs_bash
@pytest.mark.parametrize("known", [True, False])
def test_the_baseline_is_the_artifact_of_the_last_good_run_of_the_branch(known: bool, tmp_path: Path) -> None:
    listed = 'case "$*" in "run list"*) %s;; esac; echo "$@" >> asked' % ("echo 77" if known else ":")
    runner = Runner(tmp_path, {"gh": listed})
    of = {"ARTIFACT": "base line", "BRANCH": "main", "WORKFLOW": "w", "REPOSITORY": "a/b", "TO": f"{tmp_path}/to"}
    done = runner.run("Fetch the baseline", **of)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert "--branch main --status success" in asked[0]
    if known:
        assert done.returncode == 0
        assert asked[1] == f"run download 77 --repo a/b --name base line --dir {tmp_path}/to"
    else:
        assert (done.returncode, len(asked)) == (4, 1)
        assert "with record: true" in done.stdout


@needs_bash
@pytest.mark.parametrize(
    ("words", "installs"),
    [
        ({}, "/action"),
        ({"EXTRAS": "mm,runtimes"}, "/action[mm,runtimes]"),
        ({"VITQ": "vitq==0.2.0", "CONSTRAINTS": "c.txt"}, "--constraint c.txt vitq==0.2.0"),
    ],
)
def test_what_is_installed(words: dict[str, str], installs: str, tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"python": 'echo "$@" >> asked', "vitq": 'echo "vitq $@" >> asked'})
    assert runner.run("Install vitq", ACTION_PATH="/action", **words).returncode == 0
    assert (tmp_path / "asked").read_text() == f"-m pip install {installs}\nvitq --version\n"

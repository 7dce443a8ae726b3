"""`vitq gate` as it is typed: golden files of what it prints and writes, and every exit code.

A golden file an outcome and format. `VITQ_WRITE_GOLDEN=1 python -m pytest tests/benchmarks/gate/test_gate_command.py`
writes them anew; look at the difference before it is committed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from gate_runs import LATER, MINMAX, PMQ, RUNS, XNOR, baseline, cell, same
from rows import CELL, record, write_results
from typer.testing import CliRunner, Result

from vitq.benchmarks.cli import app

GOLDEN = Path(__file__).parent / "golden"


def gate(*words: object, **env: str) -> Result:
    return CliRunner().invoke(app, ["gate", *map(str, words)], env={"GITHUB_ACTIONS": "", **env})


def ran(tmp_path: Path, name: str, *words: object, **env: str) -> Result:
    old = write_results(tmp_path / "old", *RUNS[name].baseline(tmp_path / "old"))
    new = write_results(tmp_path / "new", *RUNS[name].later(tmp_path / "new"))
    return gate("smoke", "--baseline", old, "--results", new, *words, **env)


def holds(name: str, text: str) -> None:
    """Compare with a golden file."""
    if os.environ.get("VITQ_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def holds_all(name: str, result: Result, tmp_path: Path) -> None:
    """What was printed, annotations apart, and the files that were written."""
    lines = result.stdout.splitlines(keepends=True)
    holds(f"gate-{name}.txt", "".join(line for line in lines if not line.startswith("::")))
    holds(f"gate-{name}.annotations.txt", "".join(line for line in lines if line.startswith("::")))
    holds(f"gate-{name}.xml", (tmp_path / "gate.xml").read_text(encoding="utf-8"))
    holds(f"gate-{name}.md", (tmp_path / "gate.md").read_text(encoding="utf-8"))


def files(tmp_path: Path) -> tuple[object, ...]:
    return ("--junit", tmp_path / "gate.xml", "--summary", tmp_path / "gate.md", "--annotate")


@pytest.mark.parametrize("name", RUNS)
def test_what_is_printed_and_written(name: str, tmp_path: Path) -> None:
    result = ran(tmp_path, name, *files(tmp_path))
    assert result.exit_code == RUNS[name].exit_code, result.output
    holds_all(name, result, tmp_path)


def test_a_change_that_is_accepted_and_the_gates_after_it(tmp_path: Path) -> None:
    words = ("--update", "--reason", "the observer sees every token")
    result = ran(tmp_path, "worse", *files(tmp_path), *words)
    assert result.exit_code == 0, result.output
    holds_all("accepted", result, tmp_path)
    later = LATER.model_copy(update={"finished": "2026-03-02T03:04:05+00:00"})
    folder = tmp_path / "next"
    write_results(folder, *cell(CELL, folder, later, np.arange(200) < 180, code="b"))
    result = gate("smoke", "--baseline", tmp_path / "old", "--results", folder, *files(tmp_path))
    assert result.exit_code == 0, result.output
    holds_all("accepted-earlier", result, tmp_path)


def test_junit_counts_what_it_holds(tmp_path: Path) -> None:
    ran(tmp_path, "regressed", "--junit", tmp_path / "gate.xml")
    root = ET.fromstring((tmp_path / "gate.xml").read_text())
    counted = {name: int(root.get(name, "-1")) for name in ("tests", "failures", "errors", "skipped")}
    assert counted == {"tests": 5, "failures": 4, "errors": 0, "skipped": 0}
    names = {case.get("name") for case in root.iter("testcase")}
    assert names == {"FP32/classification/digits/digits_vit", CELL, MINMAX, PMQ, XNOR}


def test_the_job_summary_is_added_to_what_other_steps_wrote(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("# Tests\n")
    ran(tmp_path, "same", GITHUB_STEP_SUMMARY=str(file))
    assert file.read_text().startswith("# Tests\n## vitq gate smoke: passed\n")


@pytest.mark.parametrize("option", ["--junit", "--summary"])
def test_a_file_that_cannot_be_written_is_one_line_after_the_table(option: str, tmp_path: Path) -> None:
    result = ran(tmp_path, "same", option, tmp_path / "nowhere" / "gate.xml")
    assert result.exit_code == 2
    assert "good: 4 of 4" in result.stdout
    assert result.stderr.count("\n") == 1
    assert "cannot be written" in result.stderr


def test_the_results_folder_itself_is_no_baseline(tmp_path: Path) -> None:
    old = baseline(tmp_path / "old")
    for given in (old, old / "records.jsonl"):
        result = gate("smoke", "--baseline", given, "--results", old)
        assert result.exit_code == 4
        assert "is the results folder itself" in result.stdout
        assert "nothing was compared: 0 of 4 baseline cells" in result.stdout


def test_cells_can_be_picked(tmp_path: Path) -> None:
    assert ran(tmp_path, "regressed", "-k", "nothing").exit_code == 4
    picked = ran(tmp_path, "elsewhere", "-k", "pmq or repq")
    assert picked.exit_code == 0
    assert "2 of 2 baseline cells compared on 400 samples" in picked.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nosuchsuite",), "no suite is called"),
        (("--at-least", "few"), "--at-least takes a number of cells or all"),
        (("--at-least", "0"), "--at-least takes 1 or more"),
        (("--results", "nowhere"), "no records at"),
        (("-k", "and and"), "-k"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    old = baseline(tmp_path / "old")
    given = () if words[0] == "nosuchsuite" else ("smoke",)
    folder = () if "--results" in words else ("--results", old)
    result = gate(*given, "--baseline", old, *folder, *words)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_broken_outcomes_are_bad_input(tmp_path: Path) -> None:
    old, new = baseline(tmp_path / "old"), write_results(tmp_path / "new", *same(tmp_path / "new"))
    for file in (new / "outcomes").iterdir():
        file.write_bytes(b"")
    result = gate("smoke", "--baseline", old, "--results", new)
    assert result.exit_code == 2
    assert "copy the folder outcomes again" in result.stderr


HOSTILE = "\x1b[31m<b>| `a` *b* ]]> &amp; @all \x00 \ud7ff :x: ]("


def test_what_a_record_says_cannot_break_out_of_what_is_written(tmp_path: Path) -> None:
    old = baseline(tmp_path / "old")
    bad = record("accuracy", status="failed", error=HOSTILE, provenance=LATER)
    new = write_results(tmp_path / "new", *cell(CELL, tmp_path / "new", LATER, accuracy=bad))
    words = ("--junit", tmp_path / "gate.xml", "--summary", tmp_path / "gate.md")
    result = gate("smoke", "--baseline", old, "--results", new, *words)
    assert "\x1b" not in result.stdout
    assert "\\x1b[31m" in result.stdout
    (failure,) = (f for f in ET.parse(tmp_path / "gate.xml").iter("failure") if "<b>" in f.get("message", ""))
    assert "]]> &amp; @all \\x00" in (failure.text or "")
    (line,) = (each for each in (tmp_path / "gate.md").read_text().split("\n") if "all" in each and "31m" in each)
    bare = re.sub(r"\\.", "", line)
    assert bare.count("|") == 8
    assert not set("<`*@]") & set(bare)

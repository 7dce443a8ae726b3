"""`vitq gate` as it is typed: golden files of what it prints and writes, and every exit code.

`VITQ_WRITE_GOLDEN=1` writes the golden files anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rows import CELL, HERE, OPERATIONS, SAMPLES, asked, evaluated, form, fp32_of, record, write_results
from typer.testing import CliRunner, Result

from vitq.benchmarks.cli import app
from vitq.record import Line, Provenance

GOLDEN = Path(__file__).parent / "golden"
LATER = HERE.model_copy(update={"finished": "2026-02-02T03:04:05+00:00"})
THERE = LATER.model_copy(update={"machine": "machine-b", "cpu": "Another CPU", "packages": {"torch": "2.9.0"}})
MINMAX, PMQ, XNOR = (
    f"{name}/classification/digits/digits_vit/{bits}/seed0"
    for name, bits in (("minmax", "W8A8"), ("pmq", "W4A4"), ("binary_vit", "W1A1"))
)
RIGHT = np.arange(200) < 188
KERNEL = [4.0 + 0.01 * i for i in range(12)]


def cell(name: str, folder: Path, where: Provenance, right: Any = RIGHT, **records: Any) -> list[Line]:
    """A cell with outcomes, and what is given of other kinds; None leaves a kind out."""
    fp32 = evaluated(fp32_of(name, provenance=where), np.arange(200) < 195, folder)
    code = records.pop("code", "a")
    accuracy = record("accuracy", name, provenance=where, identity={"code": code})
    made = {
        "accuracy": evaluated(accuracy, right, folder, samples=records.pop("samples", SAMPLES)),
        "counts": record("counts", name, provenance=where),
        "latency": record("latency", name, provenance=where),
    } | records
    own = [each for each in made.values() if each is not None]
    return [fp32, *own, asked(name, *own, fp32=fp32, provenance=where)]


def kernel(where: Provenance, factor: float = 1.0) -> Any:
    forms = [form("fp32", [10.0] * 12), form("xnor:torch", [factor * each for each in KERNEL])]
    return record("latency", XNOR, provenance=where, latency=forms)


def failed(name: str, where: Provenance) -> Any:
    return record("accuracy", name, provenance=where, status="failed", identity={"code": "b"})


def baseline(folder: Path) -> Path:
    content = [*cell(CELL, folder, HERE), *cell(MINMAX, folder, HERE), *cell(PMQ, folder, HERE)]
    return write_results(folder, *content, *cell(XNOR, folder, HERE, latency=kernel(HERE)))


def same(folder: Path) -> list[Line]:
    content = [*cell(CELL, folder, LATER), *cell(MINMAX, folder, LATER), *cell(PMQ, folder, LATER)]
    return [*content, *cell(XNOR, folder, LATER, latency=kernel(LATER))]


def regressed(folder: Path) -> list[Line]:
    one_more = record("counts", MINMAX, operations=OPERATIONS.model_copy(update={"bitops": 30_822_401}))
    return [
        *cell(CELL, folder, LATER, np.arange(200) < 180, code="b"),
        *cell(MINMAX, folder, LATER, counts=one_more, code="b"),
        *cell(PMQ, folder, LATER, accuracy=failed(PMQ, LATER)),
        *cell(XNOR, folder, LATER, latency=kernel(LATER, 1.2)),
    ]


def elsewhere(folder: Path) -> list[Line]:
    flipped = RIGHT.copy()
    flipped[[1, 2, 195]] = ~flipped[[1, 2, 195]]
    content = [*cell(CELL, folder, THERE, flipped), *cell(MINMAX, folder, THERE, np.arange(200) < 170)]
    return [*content, *cell(PMQ, folder, THERE), *cell(XNOR, folder, THERE, latency=kernel(THERE, 3.0))]


def limited(folder: Path) -> list[Line]:
    return [line for name in (CELL, MINMAX) for line in cell(f"{name}/limit100", folder, LATER)]


RUNS: dict[str, tuple[Callable[[Path], list[Line]], int]] = {
    "same": (same, 0), "regressed": (regressed, 1), "elsewhere": (elsewhere, 1), "limited": (limited, 4),
}  # fmt: skip


def gate(*words: object, **env: str) -> Result:
    return CliRunner().invoke(app, ["gate", *map(str, words)], env=env)


def ran(tmp_path: Path, name: str, *words: object, **env: str) -> Result:
    old, new = baseline(tmp_path / "old"), write_results(tmp_path / "new", *RUNS[name][0](tmp_path / "new"))
    return gate("smoke", "--baseline", old, "--results", new, *words, **env)


def holds(name: str, text: str) -> None:
    """Compare with a golden file."""
    if os.environ.get("VITQ_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RUNS)
def test_what_is_printed_and_written(name: str, tmp_path: Path) -> None:
    junit, summary = tmp_path / "gate.xml", tmp_path / "gate.md"
    result = ran(tmp_path, name, "--junit", junit, "--summary", summary)
    assert result.exit_code == RUNS[name][1], result.output
    holds(f"gate-{name}.txt", result.stdout)
    holds(f"gate-{name}.xml", junit.read_text(encoding="utf-8"))
    holds(f"gate-{name}.md", summary.read_text(encoding="utf-8"))


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

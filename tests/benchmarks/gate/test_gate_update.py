"""`vitq gate --update`: what it accepts and refuses, and what is left of the baseline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gate_runs import HERE, LATER, MINMAX, PMQ, RIGHT, WORSE, XNOR, all_cells, baseline, cell, kernel, regressed, same
from rows import CELL, write_results
from typer.testing import CliRunner, Result

from vitq.benchmarks.cli import app
from vitq.benchmarks.gate.accepted import read_accepted
from vitq.benchmarks.gate.annotations import MOST, annotated
from vitq.benchmarks.gate.matching import read_baseline
from vitq.benchmarks.gate.policy import GateRow
from vitq.benchmarks.gate.result import GateResult
from vitq.benchmarks.gate.spread import read_spread
from vitq.record import Line

NEXT = LATER.model_copy(update={"finished": "2026-03-02T03:04:05+00:00"})
BECAUSE = ("--update", "--reason", "rounding is to even now")


def gate(old: Path, new: Path, *words: object) -> Result:
    command = ["gate", "smoke", "--baseline", str(old), "--results", str(new), *map(str, words)]
    return CliRunner().invoke(app, command, env={"GITHUB_ACTIONS": "", "GITHUB_STEP_SUMMARY": ""})


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def worse_kernel(folder: Path) -> list[Line]:
    """One cell less accurate, one kernel slower, the others as they were."""
    return [
        *WORSE(folder),
        *cell(MINMAX, folder, LATER),
        *cell(PMQ, folder, LATER),
        *cell(XNOR, folder, LATER, latency=kernel(LATER, 1.3)),
    ]


def test_only_what_differs_is_replaced_and_everything_measured_of_it_is(tmp_path: Path) -> None:
    old, new = baseline(tmp_path / "old"), write_results(tmp_path / "new", *worse_kernel(tmp_path / "new"))
    before = {row.cell.id: row for row in read_baseline(old)}
    assert gate(old, new, *BECAUSE).exit_code == 0
    after = {row.cell.id: row for row in read_baseline(old)}
    assert list(after) == list(before), "cells stay in order"
    assert {name for name in after if after[name].provenance.finished != before[name].provenance.finished} == {
        CELL,
        XNOR,
    }
    assert after[CELL].metrics["top1"].value == 90.0
    assert [each.exec for each in after[XNOR].latency] == [each.exec for each in before[XNOR].latency]
    assert all((old / str(row.outcomes)).is_file() for row in after.values())
    named = {row.outcomes for row in after.values()} | {row.fp32_outcomes for row in after.values()}
    assert {f"outcomes/{path.name}" for path in (old / "outcomes").iterdir()} == named, "nothing is left over"


def test_the_next_run_of_the_same_code_is_good_and_says_why(tmp_path: Path) -> None:
    old, new = baseline(tmp_path / "old"), write_results(tmp_path / "new", *worse_kernel(tmp_path / "new"))
    gate(old, new, *BECAUSE)
    right = np.arange(200) < 180
    later = tmp_path / "later"
    content = [*cell(CELL, later, NEXT, right, code="b"), *cell(MINMAX, later, NEXT), *cell(PMQ, later, NEXT)]
    write_results(later, *content, *cell(XNOR, later, NEXT, latency=kernel(NEXT, 1.3)))
    result = gate(old, later)
    assert result.exit_code == 0, result.output
    assert "accepted earlier, rounding is to even now: " in result.stdout
    back = gate(old, write_results(tmp_path / "back", *same(tmp_path / "back")))
    assert back.exit_code == 1, "what was accepted is the bar now"


def test_reasons_add_up(tmp_path: Path) -> None:
    old = baseline(tmp_path / "old")
    for count, reason in ((180, "first"), (185, "second")):
        new = tmp_path / reason
        rest = [line for name in (MINMAX, PMQ) for line in cell(name, new, LATER)]
        kernels = cell(XNOR, new, LATER, latency=kernel(LATER))
        write_results(new, *cell(CELL, new, LATER, np.arange(200) < count, code=reason), *rest, *kernels)
        assert gate(old, new, "--update", "--reason", reason).exit_code == 0
    found = read_accepted(old)
    assert [each.reason for each in found] == ["first", "second"]
    assert [(c.quantity, c.before, c.after) for c in found[1].changes] == [("top1", "90.000", "92.500")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--update",), "--update needs a reason"),
        (("--update", "--reason", " . "), "--update needs a reason"),
        (("--update", "--reason", "x" * 1001), "1000 characters at most"),
        (("--reason", "because"), "give --update with them"),
        (("--drop",), "give --update with them"),
    ],
)
def test_no_update_without_a_reason_and_no_reason_without_an_update(
    words: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    old, new = baseline(tmp_path / "old"), write_results(tmp_path / "new", *worse_kernel(tmp_path / "new"))
    before, result = held(old), gate(old, new, *words)
    assert (result.exit_code, held(old)) == (2, before)
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_failed_cells_are_never_accepted_and_are_shown(tmp_path: Path) -> None:
    old, new = baseline(tmp_path / "old"), write_results(tmp_path / "new", *regressed(tmp_path / "new"))
    before, result = held(old), gate(old, new, *BECAUSE)
    assert (result.exit_code, held(old)) == (2, before)
    assert "no convergence" in result.stdout
    assert f"accepts no failure, and {PMQ} is failed" in result.stderr
    assert gate(old, new, *BECAUSE, "-k", "not pmq").exit_code == 0
    assert {row.cell.id for row in read_baseline(old)} == {CELL, MINMAX, PMQ, XNOR}, "those not picked stay"


def test_cells_that_were_not_run_stay_unless_they_are_let_go(tmp_path: Path) -> None:
    old, new = baseline(tmp_path / "old"), write_results(tmp_path / "new", *WORSE(tmp_path / "new"))
    before, result = held(old), gate(old, new, *BECAUSE)
    assert (result.exit_code, held(old)) == (2, before)
    assert "or give --drop" in result.stderr
    assert gate(old, new, *BECAUSE, "--drop").exit_code == 0
    assert [row.cell.id for row in read_baseline(old)] == [CELL]
    assert {c.after for c in read_accepted(old)[0].changes if c.quantity == "cell"} == {"absent"}


def test_new_cells_are_added(tmp_path: Path) -> None:
    old = write_results(tmp_path / "old", *cell(CELL, tmp_path / "old", HERE))
    new = tmp_path / "new"
    write_results(new, *cell(CELL, new, LATER), *cell(MINMAX, new, LATER))
    assert gate(old, new, *BECAUSE).exit_code == 0
    rows = {row.cell.id: row for row in read_baseline(old)}
    assert list(rows) == [CELL, MINMAX]
    assert rows[CELL].provenance.finished == HERE.finished, "its bar stays where it was"


def test_nothing_to_accept_writes_nothing(tmp_path: Path) -> None:
    old, new = baseline(tmp_path / "old"), write_results(tmp_path / "new", *same(tmp_path / "new"))
    before = held(old)
    assert gate(old, new, *BECAUSE).exit_code == 0
    assert held(old) == before


def test_the_baseline_is_no_run_of_its_own(tmp_path: Path) -> None:
    old = baseline(tmp_path / "old")
    before, result = held(old), gate(old, old, *BECAUSE)
    assert (result.exit_code, held(old)) == (2, before)
    assert "is the baseline itself" in result.stderr


def test_the_spread_of_what_changed_is_forgotten(tmp_path: Path) -> None:
    old, new = baseline(tmp_path / "old"), write_results(tmp_path / "new", *worse_kernel(tmp_path / "new"))
    runs = {"baseline": 94.0, "one": 93.0, "two": 95.0}
    spread = {"runs": dict.fromkeys(runs, "how"), "cells": {name: {"top1": runs} for name in (CELL, MINMAX)}}
    (old / "spread.json").write_text(json.dumps(spread))
    assert gate(old, new, *BECAUSE).exit_code == 0
    left = read_spread(old, read_baseline(old))
    assert left is not None
    assert list(left.cells) == [MINMAX]


@pytest.mark.parametrize(
    "content", ["", "{}x", '{"accepted": [{"reason": ""}]}', "[" * 100_000, '{"schema_version": 2}']
)
def test_a_broken_file_of_reasons_is_one_line(content: str, tmp_path: Path) -> None:
    old, new = baseline(tmp_path / "old"), write_results(tmp_path / "new", *same(tmp_path / "new"))
    (old / "accepted.json").write_text(content)
    result = gate(old, new)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_a_hostile_reason_stays_text(tmp_path: Path) -> None:
    old, new = baseline(tmp_path / "old"), write_results(tmp_path / "new", *worse_kernel(tmp_path / "new"))
    reason = "a\x1b[31m\n::error::pwned <b> | x"
    result = gate(old, new, "--update", "--reason", reason, "--annotate", "--summary", tmp_path / "s.md")
    assert result.exit_code == 0, result.output
    assert not any(line.startswith("::error") for line in result.stdout.splitlines())
    assert "\x1b" not in result.stdout
    assert "<b>" not in (tmp_path / "s.md").read_text()


def test_a_tolerance_a_metric_and_a_count(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_results(old, *cell(CELL, old, HERE))
    write_results(new, *cell(CELL, new, LATER, np.arange(200) < 187, code="b"))
    site = tmp_path / "vitq.toml"
    site.write_text("[gate]\ntop1 = 0.5\n")
    assert gate(old, new).exit_code == 1
    assert gate(old, new, "--site", site).exit_code == 0
    assert gate(old, new, "--site", site, "--tolerance", 0).exit_code == 1, "the command line wins"
    assert gate(old, new, "--site", site, "--allow", "top1=0.4").exit_code == 1
    assert gate(old, new, "--tolerance", 0, "--allow", "top1=0.5").exit_code == 0
    site.write_text("[gate]\ntop5 = 0.5\n")
    assert gate(old, new, "--site", site).exit_code == 1, "another metric's"


def test_a_kernel_may_be_slower_by_the_site_file(tmp_path: Path) -> None:
    old = write_results(tmp_path / "old", *cell(XNOR, tmp_path / "old", HERE, latency=kernel(HERE)))
    new = write_results(tmp_path / "new", *cell(XNOR, tmp_path / "new", LATER, RIGHT, latency=kernel(LATER, 1.3)))
    site = tmp_path / "vitq.toml"
    site.write_text("[gate]\nlatency = 1.5\n")
    assert gate(old, new, "--site", site).exit_code == 0
    assert gate(old, new, "--site", site, "--slowdown", 1.2).exit_code == 1


def test_github_shows_ten_errors_so_that_the_last_counts_the_rest() -> None:
    rows = [GateRow(f"cell {i}, 100%:\n", "top1", "1", "0", "0", "worse", "50%\r\n::x") for i in range(20)]
    lines = annotated(GateResult(rows, compared=20, cells=20), "s", "suites/a,b.yaml")
    assert len(lines) == MOST + 1
    assert lines[0].startswith("::error file=suites/a%2Cb.yaml,title=vitq gate s%3A cell 0%2C 100%25%3A")
    assert lines[-1].endswith("::11 cells more fail")
    assert not any("\n" in line or "\r" in line for line in lines)


def test_all_cells_of_the_baseline_are_those_of_its_file(tmp_path: Path) -> None:
    """A baseline named by its file is updated as one named by its folder."""
    old = write_results(tmp_path / "old", *all_cells(tmp_path / "old"))
    new = write_results(tmp_path / "new", *worse_kernel(tmp_path / "new"))
    assert gate(old / "records.jsonl", new, *BECAUSE).exit_code == 0
    assert read_accepted(old)[0].reason == "rounding is to even now"

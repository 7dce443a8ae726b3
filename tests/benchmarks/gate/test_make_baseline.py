"""A baseline made of a finished run: it gates that run, holds no more than it needs, and knows how far cells move."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import CELL, HERE, asked, evaluated, fp32_of, record, write_results
from typer.testing import CliRunner, Result

from vitq.benchmarks.cli import app
from vitq.benchmarks.gate import gate, read_baseline
from vitq.benchmarks.gate.accepted import Acceptance, Change, read_accepted, write_accepted
from vitq.benchmarks.gate.baseline import write_baseline
from vitq.benchmarks.gate.make_baseline import main
from vitq.benchmarks.gate.perturb import PERTURBATIONS, Run, flips, measured_spread, perturbed_runs
from vitq.benchmarks.gate.spread import read_spread
from vitq.benchmarks.run.store import read_lines, read_rows
from vitq.errors import BadInputError
from vitq.record import Line, Provenance
from vitq.rows import Row

STEADY = CELL.replace("W4A4", "W8A8")
LATER = HERE.model_copy(update={"finished": "2026-02-02T03:04:05+00:00"})
N = 200


def run(folder: Path, wrong: Mapping[str, int], where: Provenance = HERE, digest: str = "66" * 32) -> Path:
    """Results of cells with so many wrong samples, drawn from the cell's own end."""
    return write_results(folder, *(line for name, n in wrong.items() for line in cell(folder, name, n, where, digest)))


def cell(folder: Path, name: str, wrong: int, where: Provenance, digest: str) -> list[Line]:
    fp32 = evaluated(fp32_of(name, provenance=where), np.arange(N) < 195, folder)
    said = {
        "without_effect": [str(folder)], "calibration_batches": 1, "reparameterized_layernorms": 0,
        "constant_channels": 0, "layernorm_zero_points": None,
    }  # fmt: skip
    accuracy = record(
        "accuracy", name, provenance=where, output_sha256=digest, details=said,
        files={"list": "x.txt"}, warnings=["w"], seconds={"evaluate": 1.0},
    )  # fmt: skip
    kinds = [evaluated(accuracy, np.arange(N) < N - wrong, folder)]
    kinds += [record(kind, name, provenance=where) for kind in ("model", "counts", "latency")]  # type: ignore[arg-type]
    return [fp32, *kinds, asked(name, *kinds, fp32=fp32, provenance=where)]


def made(tmp_path: Path, *words: str) -> Path:
    out = tmp_path / "baseline"
    results = run(tmp_path / "results", {CELL: 90, STEADY: 6})
    assert main(["smoke", "--results", str(results), "--out", str(out), *words]) == 0
    return out


def test_it_gates_the_run_that_it_was_made_of_when_that_is_run_anew(tmp_path: Path) -> None:
    out, again = made(tmp_path), run(tmp_path / "again", {CELL: 90, STEADY: 6}, LATER)
    result = gate(read_baseline(out), read_rows(again))
    assert (result.exit_code, result.compared, result.samples) == (0, 2, (400, 400))
    worse = run(tmp_path / "worse", {CELL: 91, STEADY: 6}, LATER)
    assert gate(read_baseline(out), read_rows(worse)).exit_code == 1
    own = gate(read_baseline(out), read_rows(tmp_path / "results"))
    assert own.exit_code == 4, "the run itself, not run anew"


def test_it_holds_no_more_than_a_gate_needs(tmp_path: Path) -> None:
    out = made(tmp_path)
    text = (out / "records.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["kind"] for line in lines] == ["accuracy", "counts", "accuracy", "cell", "accuracy", "counts", "cell"]
    assert str(tmp_path) not in text
    for word in ('command":"vitq', "samples_ms", "A CPU of 2 cores", "x.txt"):
        assert word not in text
    assert len(list((out / "outcomes").iterdir())) == 3, "FP32's once"
    assert not (out / "spread.json").exists()


def test_latency_is_kept_on_request_with_its_processor(tmp_path: Path) -> None:
    row = read_baseline(made(tmp_path, "--latency"))[0]
    assert row.latency
    assert row.latency_provenance is not None
    assert row.latency_provenance.cpu == "A CPU of 2 cores"


def test_a_failed_cell_is_kept_as_one(tmp_path: Path) -> None:
    bad = record("model", STEADY, status="failed", error=f"RuntimeError: in {tmp_path}")
    content = cell(tmp_path / "results", CELL, 90, HERE, "66" * 32)
    write_results(tmp_path / "results", *content, asked(STEADY, bad, record("accuracy", STEADY)), bad)
    write_baseline(tmp_path / "results", tmp_path / "out", latency=False)
    assert [row.status for row in read_baseline(tmp_path / "out")] == ["done", "failed"]
    assert str(tmp_path) not in (tmp_path / "out" / "records.jsonl").read_text()


def test_only_the_last_asking_is_kept(tmp_path: Path) -> None:
    old = cell(tmp_path / "results", CELL, 90, HERE, "66" * 32)
    changed = [evaluated(record("accuracy", identity={"code": "b"}), np.arange(N) < 150, tmp_path / "results")]
    write_results(tmp_path / "results", *old, *changed, asked(CELL, *changed))
    write_baseline(tmp_path / "results", tmp_path / "out", latency=False)
    assert [line.kind for line in read_lines(tmp_path / "out")] == ["accuracy", "cell"]


class Machine:
    """Stands for `vitq run` under other variables: each run ends elsewhere, and notes what was asked of it."""

    def __init__(self, chaotic: list[int], effects: list[bool]) -> None:
        self.chaotic, self.effects, self.asked = iter(chaotic), iter(effects), []  # type: ignore[var-annotated]

    def __call__(self, suite: str, k: str, folder: Path, variables: Mapping[str, str]) -> None:
        names = k.split(" or ")
        self.asked.append((names, dict(variables)))
        effect = next(self.effects)
        wrong = {CELL: next(self.chaotic) if effect else 90, STEADY: 7 if effect else 6}
        run(folder, {name: wrong[name] for name in names}, LATER, "77" * 32 if effect else "66" * 32)


def baseline_rows(tmp_path: Path) -> list[Row]:
    return read_rows(run(tmp_path / "results", {CELL: 90, STEADY: 6}))


def test_only_chaotic_cells_are_run_more_than_once(tmp_path: Path) -> None:
    machine, rows = Machine([100, 84, 95], [True] * 3), baseline_rows(tmp_path)
    runs = perturbed_runs("smoke", rows, tmp_path / "work", 3, machine)
    assert [names for names, _ in machine.asked] == [[CELL, STEADY], [CELL], [CELL]]
    assert [variables for _, variables in machine.asked] == list(PERTURBATIONS.values())[:3]
    spread = measured_spread(rows, runs)
    assert list(spread.cells[CELL]["top1"].values()) == pytest.approx([55.0, 50.0, 58.0, 52.5])
    assert list(spread.cells[STEADY]["top1"].values()) == pytest.approx([97.0, 96.5])
    points = spread.of(CELL, "top1")
    assert points is not None
    assert points[0] == pytest.approx(np.sqrt(2) * np.std([55.0, 50.0, 58.0, 52.5], ddof=1))
    assert spread.of(STEADY, "top1") is None


def test_a_perturbation_without_effect_here_is_no_run(tmp_path: Path) -> None:
    machine, rows = Machine([100, 84], [False, True, True]), baseline_rows(tmp_path)
    runs = perturbed_runs("smoke", rows, tmp_path / "work", 2, machine)
    assert list(runs) == list(PERTURBATIONS)[1:3]
    nothing = Machine([], [False] * len(PERTURBATIONS))
    with pytest.raises(BadInputError, match="no perturbation changed a bit"):
        perturbed_runs("smoke", rows, tmp_path / "none", 2, nothing)


def test_a_cell_that_fails_when_perturbed_is_chaotic(tmp_path: Path) -> None:
    rows = baseline_rows(tmp_path)
    assert flips(rows[0], []) == 1.0
    assert flips(rows[0], read_rows(run(tmp_path / "other", {CELL: 94}))) == pytest.approx(4 / N)


def test_results_of_another_machine_count_to_the_spread(tmp_path: Path) -> None:
    there = [run(tmp_path / f"there{i}", {CELL: wrong}, LATER) for i, wrong in enumerate((100, 80))]
    out = made(tmp_path, "--also", str(there[0]), "--also", str(there[1]))
    spread = read_spread(out, read_baseline(out))
    assert spread is not None
    assert list(spread.cells[CELL]["top1"].values()) == pytest.approx([55.0, 50.0, 60.0])
    text = (out / "README.md").read_text()
    assert f"| `{CELL}` | top1 | 3 | 7.07 |" in text
    assert "Tolerance 0, and why" in text


def test_the_spread_of_the_baseline_that_is_replaced_stays_where_accuracy_does(tmp_path: Path) -> None:
    first = run(tmp_path / "first", {CELL: 90, STEADY: 6})
    there = run(tmp_path / "there", {CELL: 80, STEADY: 6})
    old, new = tmp_path / "old", tmp_path / "new"
    assert main(["smoke", "--results", str(first), "--out", str(old), "--also", str(there)]) == 0
    now = run(tmp_path / "now", {CELL: 90, STEADY: 5})
    elsewhere = run(tmp_path / "elsewhere", {CELL: 70, STEADY: 5})
    words = ["--results", str(now), "--out", str(new), "--also", str(elsewhere), "--from", str(old)]
    assert main(["smoke", *words]) == 0
    spread = read_spread(new, read_baseline(new))
    assert spread is not None
    assert spread.cells[CELL]["top1"] == pytest.approx({"baseline": 55.0, "elsewhere-1": 60.0, "elsewhere-1-2": 65.0})
    assert spread.cells[STEADY]["top1"] == pytest.approx({"baseline": 97.5, "elsewhere-1-2": 97.5})
    assert set(spread.runs) == {"baseline", "elsewhere-1", "elsewhere-1-2"}


def test_runs_on_other_samples_do_not_count(tmp_path: Path) -> None:
    rows = baseline_rows(tmp_path)
    other = evaluated(record("accuracy"), np.arange(N) < 10, tmp_path / "there", samples="other")
    write_results(tmp_path / "there", other, asked(CELL, other))
    assert measured_spread(rows, {"there": Run(read_rows(tmp_path / "there"), "")}).cells == {}


ACCEPTED = [
    Acceptance(reason=reason, changes=[Change(cell=CELL, quantity="top1", before="55.000", after=after)])
    for reason, after in (("rounding is to even now", "54.500"), ("the seed is another one", "55.000"))
]


@pytest.mark.parametrize("named", ["", "records.jsonl"], ids=["folder", "file"])
def test_reasons_of_the_baseline_that_is_replaced_stay(named: str, tmp_path: Path, capsys: Any) -> None:
    old = write_baseline_of(tmp_path / "old", ACCEPTED)
    out = made(tmp_path, "--from", str(old / named))
    assert read_accepted(out) == ACCEPTED
    assert "reasons of 2 accepted changes kept" in capsys.readouterr().out
    result = gate_run(out, run(tmp_path / "again", {CELL: 90, STEADY: 6}, LATER))
    assert result.exit_code == 0
    for each in ACCEPTED:
        assert f"accepted earlier, {each.reason}" in result.stdout


def test_a_later_update_adds_to_them(tmp_path: Path) -> None:
    out = made(tmp_path, "--from", str(write_baseline_of(tmp_path / "old", ACCEPTED)))
    worse = run(tmp_path / "worse", {CELL: 100, STEADY: 6}, LATER)
    assert gate_run(out, worse, "--update", "--reason", "a third one").exit_code == 0
    assert [each.reason for each in read_accepted(out)] == [*(each.reason for each in ACCEPTED), "a third one"]


def test_a_baseline_of_which_nothing_was_accepted_gives_no_reasons(tmp_path: Path) -> None:
    out = made(tmp_path, "--from", str(write_baseline_of(tmp_path / "old", [])))
    assert not (out / "accepted.json").exists()


def write_baseline_of(folder: Path, accepted: list[Acceptance]) -> Path:
    """A baseline of other results than those that replace it."""
    write_baseline(run(folder.with_name("before"), {CELL: 80, STEADY: 6}), folder, latency=False)
    if accepted:
        write_accepted(folder, accepted)
    return folder


def gate_run(old: Path, new: Path, *words: str) -> Result:
    command = ["gate", "smoke", "--baseline", str(old), "--results", str(new), *words]
    return CliRunner().invoke(app, command, env={"GITHUB_ACTIONS": "", "GITHUB_STEP_SUMMARY": ""})


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("absent", "holds no baseline: name by --from the one that is replaced"),
        ("results", "accepted.json cannot be read"),
        ("itself", "holds something"),
    ],
)
def test_a_baseline_whose_reasons_cannot_be_kept_is_one_line_and_nothing_is_written(
    fault: str, said: str, tmp_path: Path, capsys: Any
) -> None:
    old, out, work = tmp_path / "old", tmp_path / "baseline", tmp_path / "work"
    results = run(tmp_path / "results", {CELL: 90})
    if fault != "absent":
        write_baseline_of(old, ACCEPTED)
    if fault == "results":
        (old / "accepted.json").write_text('{"accepted": [{"reason": ""}]}')
    to = old if fault == "itself" else out
    words = ["--out", str(to), "--from", str(old), "--perturb", "1", "--work", str(work)]
    assert main(["smoke", "--results", str(results), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()
    assert not work.exists(), "told before hours are spent"


@pytest.mark.parametrize("fault", ["full", "nothing", "no outcomes", "suite", "outside"])
def test_what_cannot_be_a_baseline_is_one_line(fault: str, tmp_path: Path, capsys: Any) -> None:
    results, out = run(tmp_path / "results", {CELL: 90}), tmp_path / "out"
    if fault == "full":
        out.mkdir()
        (out / "mine").touch()
    if fault == "nothing":
        (results / "records.jsonl").write_text("")
    if fault == "no outcomes":
        next((results / "outcomes").iterdir()).unlink()
    if fault == "outside":
        text = (results / "records.jsonl").read_text()
        (results / "records.jsonl").write_text(text.replace('"outcomes/', '"../results/../outcomes/'))
    suite = "nosuchsuite" if fault == "suite" else "smoke"
    assert main([suite, "--results", str(results), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("make_baseline: ")
    assert error.count("\n") == 1

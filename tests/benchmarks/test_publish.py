"""Published results: what a reader finds there is what was measured, whole, and nothing of one machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rows import CELL, HERE, asked, evaluated, fp32_of, record, write_results

from vitq.benchmarks.gate import gate, read_baseline
from vitq.benchmarks.plan.suite import Suite, load_suite
from vitq.benchmarks.publish.__main__ import main
from vitq.benchmarks.publish.records import publish
from vitq.benchmarks.run.store import read_lines, read_rows
from vitq.errors import BadInputError
from vitq.record import Line, Provenance, Record

SUITE = """
name: little
description: Two cells.
tasks: [{task: classification, dataset: digits, models: [digits_vit]}]
bits: [W4A4]
methods: [%s]
measure: [%s]
"""


def suite_of(folder: Path, *methods: str, measure: str = "accuracy, counts") -> Suite:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "little.yaml"
    file.write_text(SUITE % (", ".join(methods), measure), encoding="utf-8")
    return load_suite(str(file))


def results(folder: Path, where: Provenance = HERE, **fields: object) -> Path:
    """A finished cell with the outcomes of its samples."""
    fp32 = evaluated(fp32_of(CELL, provenance=where), np.arange(20) < 19, folder)
    said = {
        "without_effect": [], "calibration_batches": 1, "reparameterized_layernorms": 0, "constant_channels": 0,
        "layernorm_zero_points": None,
    }  # fmt: skip
    given: dict[str, object] = {"details": said, "files": {"layers": "artifacts/x.json"}, "warnings": ["a word"]}
    given |= fields
    accuracy = evaluated(record("accuracy", CELL, provenance=where, **given), np.arange(20) < 15, folder)
    others = [record("model", CELL, provenance=where), record("counts", CELL, provenance=where)]
    return write_results(folder, fp32, accuracy, *others, asked(CELL, accuracy, *others, fp32=fp32, provenance=where))


def of_kind(lines: list[Line], kind: str) -> Record:
    found = next(line for line in lines if line.kind == kind and line.cell.method == "repq_vit")
    assert isinstance(found, Record)
    return found


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return suite_of(tmp_path, "repq_vit")


def test_what_is_published_gates_the_run_it_was_made_of(suite: Suite, tmp_path: Path) -> None:
    publish(suite, results(tmp_path / "results"), tmp_path / "out")
    again = results(tmp_path / "again", HERE.model_copy(update={"finished": "2026-02-02T03:04:05+00:00"}))
    told = gate(read_baseline(tmp_path / "out"), read_rows(again))
    assert (told.exit_code, told.compared, told.samples) == (0, 1, (20, 20))


def test_what_was_measured_is_kept_and_what_is_of_the_machine_is_not(suite: Suite, tmp_path: Path) -> None:
    place = results(tmp_path / "results")
    publish(suite, place, tmp_path / "out")
    before, after = (of_kind(read_lines(folder), "accuracy") for folder in (place, tmp_path / "out"))
    assert before.files
    assert after == before.model_copy(update={"files": {}})
    assert (tmp_path / "out" / str(after.outcomes)).is_file()


def test_publishing_again_leaves_nothing_of_before(suite: Suite, tmp_path: Path) -> None:
    publish(suite, results(tmp_path / "results"), tmp_path / "out")
    stray = tmp_path / "out" / "outcomes" / "stray"
    stray.touch()
    publish(suite, tmp_path / "results", tmp_path / "out")
    assert not stray.exists()


def test_a_cell_that_failed_is_published_as_it_is(suite: Suite, tmp_path: Path) -> None:
    failed = record("accuracy", CELL, provenance=HERE, status="failed", error="no reason", traceback="in a file")
    place = write_results(tmp_path / "results", failed, asked(CELL, failed, provenance=HERE))
    (only,) = [line for line in publish(suite, place, tmp_path / "out") if isinstance(line, Record)]
    assert (only.status, only.error, only.traceback) == ("failed", "no reason", None)


def test_cells_that_were_not_measured_are_counted_and_nothing_is_written(tmp_path: Path) -> None:
    wanted = suite_of(tmp_path, "repq_vit", "minmax")
    with pytest.raises(BadInputError, match=r"1 of 2 cells of little are not finished, minmax/.* `vitq run little`"):
        publish(wanted, results(tmp_path / "results"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", ["/home/me/data", "C:\\data\\mine"])
def test_a_path_of_the_machine_is_refused(suite: Suite, path: str, tmp_path: Path) -> None:
    place = results(tmp_path / "results", warnings=[f"taken from {path}"])
    with pytest.raises(BadInputError, match=r"warnings names a path of this machine"):
        publish(suite, place, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_script_runs_a_suite_and_writes_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    suite_of(tmp_path, "{method: fp32, bits: [FP32]}", "minmax", measure="counts")
    words = ["little.yaml", "--out", "published", "--results", "results"]
    assert main(words) == 0
    assert "1 suites, 2 cells" in capsys.readouterr().out
    out = tmp_path / "published"
    assert len(read_rows(out / "little")) == 2
    text = (out / "little" / "README.md").read_text(encoding="utf-8")
    assert "2 cells: 2 done." in text
    assert "command: `vitq run little.yaml --jobs auto --results results/little`" in text
    overview = (out / "README.md").read_text(encoding="utf-8")
    assert "[`little`](little/README.md) | 2 done" in overview
    assert "![" not in overview, "a picture that was not drawn"
    assert "torch==" in (out / "constraints.txt").read_text(encoding="utf-8")
    finished = (out / "little" / "records.jsonl").read_bytes()
    assert main(words) == 0
    assert (out / "little" / "records.jsonl").read_bytes() == finished


def test_a_suite_that_cannot_run_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["no-such-suite"]) == 2
    assert capsys.readouterr().err.startswith("publish: ")

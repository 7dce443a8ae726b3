"""What is measured anew after a change, and what is not, by the command line on the embedded digits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from places import vitq

from vitq.benchmarks.run.store import read_lines, read_rows
from vitq.record import Record

pytestmark = pytest.mark.slow
SUITE = """
name: small
tasks: [{dataset: digits, models: [digits_vit], limit: 100}]
bits: [W4A4]
calibration: {images: 8, batch: 8}
latency: {batch: 2, runs: 3, warmup: 1}
threads: 1
methods: [minmax]
"""


def run(root: Path, text: str, *words: object) -> str:
    """Run the suite of this text in `root`; what it printed."""
    (root / "small.yaml").write_text(text)
    done = vitq("run", "small.yaml", "--results", "r", *words, cwd=root)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def kinds(root: Path) -> Counter[str]:
    return Counter(line.kind for line in read_lines(root / "r") if isinstance(line, Record))


def test_a_changed_latency_is_measured_alone_and_a_changed_option_all_anew(tmp_path: Path) -> None:
    run(tmp_path, SUITE)
    first = kinds(tmp_path)
    assert first == {"model": 1, "accuracy": 2, "counts": 1, "latency": 1}
    said = run(tmp_path, SUITE.replace("batch: 2", "batch: 4"))
    assert "1 finished cell will run again, since this changed: batch (2 -> 4)" in said
    assert kinds(tmp_path) - first == {"latency": 1}
    assert read_rows(tmp_path / "r")[0].latency[0].batch == 4
    changed = SUITE.replace("images: 8, batch: 8", "images: 8, batch: 4")
    dry = run(tmp_path, changed, "--dry-run", "-v")
    assert "to run    minmax/classification/digits/digits_vit/W4A4/seed0/limit100  (model, accuracy, latency)" in dry
    assert "model again: calibration (" in dry
    assert run(tmp_path, SUITE.replace("batch: 2", "batch: 4")).count("1 of them finished before") == 1


def test_with_several_jobs_latency_is_measured_too_after_all_cells(tmp_path: Path) -> None:
    text = SUITE.replace("methods: [minmax]", "methods: [minmax, repq_vit, {method: fp32, bits: [FP32]}]")
    run(tmp_path, text, "--jobs", 2)
    rows = read_rows(tmp_path / "r")
    assert [bool(row.latency) for row in rows] == [True] * 3
    order = [line.kind for line in read_lines(tmp_path / "r") if isinstance(line, Record)]
    assert order[-3:] == ["latency"] * 3
    before = (tmp_path / "r" / "records.jsonl").read_bytes()
    assert "3 of them finished before" in run(tmp_path, text)
    assert (tmp_path / "r" / "records.jsonl").read_bytes() == before


def test_two_variants_with_equal_options_are_both_shown(tmp_path: Path) -> None:
    twins = "methods: [repq_vit, {method: repq_vit, variant: twin, options: {layernorm: reparam}}]"
    said = run(tmp_path, SUITE.replace("methods: [minmax]", twins))
    assert "repq_vit/" in said
    assert "repq_vit[twin]/" in said
    one, other = read_rows(tmp_path / "r")
    assert one.keys == other.keys
    assert one.metrics == other.metrics
    assert kinds(tmp_path)["model"] == 1


def test_models_that_are_not_kept_are_dropped_and_made_again_where_they_are_needed(tmp_path: Path) -> None:
    text = SUITE + "keep: none\n"
    run(tmp_path, text)
    assert not list((tmp_path / "r" / "models").iterdir())
    row = read_rows(tmp_path / "r")[0]
    assert row.model_file is not None
    assert not row.model_file.kept
    assert "1 of them finished before" in run(tmp_path, text)
    run(tmp_path, text.replace("limit: 100", "limit: 50"))
    limited = next(r for r in read_rows(tmp_path / "r") if r.cell.limit == 50)
    assert limited.metrics["top1"].n == 50
    assert limited.keys["model"] == row.keys["model"]
    for each in read_rows(tmp_path / "r"):
        assert len((tmp_path / "r" / each.files["subset"]).read_text().split()) == each.metrics["top1"].n


def test_a_damaged_model_file_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, SUITE)
    (file,) = (tmp_path / "r" / "models").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-10] + b"0123456789")
    run(tmp_path, SUITE.replace("limit: 100", "limit: 50"))
    assert file.read_bytes() == content


def test_calibrating_on_what_is_evaluated_is_said(tmp_path: Path) -> None:
    text = SUITE.replace("images: 8, batch: 8", "images: 8, batch: 8, split: validation").replace(", limit: 100", "")
    run(tmp_path, text)
    (row,) = read_rows(tmp_path / "r")
    assert row.calibrated is not None
    assert row.calibrated.evaluated == 8
    assert any("8" in warning and "evaluated" in warning for warning in row.warnings), row.warnings

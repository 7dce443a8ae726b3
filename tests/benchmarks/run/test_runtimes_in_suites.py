"""Latency on runtimes in a suite: rows under keys of their own, added to a finished run; and reasons for none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from places import vitq

from vitq.benchmarks.run.store import read_lines, read_rows
from vitq.record import Record
from vitq.rows import Row

pytestmark = pytest.mark.slow
SUITE = """
name: small
tasks: [{dataset: digits, models: [digits_vit], limit: 20}]
bits: [W8A8]
calibration: {images: 8, batch: 8}
latency: {batch: [2, 1], runs: 3, warmup: 1}
threads: 1
methods: [{method: fp32, bits: [FP32]}, binary_vit]
"""
SUITE = SUITE.replace("binary_vit]", "{method: binary_vit, bits: [W1A1], options: {epochs: 1}}]")


def run(root: Path, *words: object, text: str = SUITE) -> str:
    (root / "small.yaml").write_text(text)
    done = vitq("run", "small.yaml", "--results", "r", *words, cwd=root)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def records(root: Path) -> Counter[str]:
    return Counter(line.kind for line in read_lines(root / "r") if isinstance(line, Record))


def row(root: Path, method: str) -> Row:
    return next(row for row in read_rows(root / "r") if row.cell.method == method)


def test_a_runtime_is_added_to_a_finished_run_and_only_it_is_timed(tmp_path: Path) -> None:
    run(tmp_path)
    first = records(tmp_path)
    said = run(tmp_path, "--runtime", "numba-xnor", "--dry-run")
    assert said.count("(latency:numba-xnor)") == 2
    run(tmp_path, "--runtime", "numba-xnor")
    assert records(tmp_path) - first == {"latency": 2}
    binary, full = row(tmp_path, "binary_vit"), row(tmp_path, "fp32")
    assert binary.status == full.status == "done"
    own = [each for each in binary.latency if each.runtime == "numba-xnor"]
    assert [(each.exec, each.batch, each.difference) for each in own] == [("xnor:numba", n, 0.0) for n in (2, 1)]
    assert all(each.operators and each.version for each in own)
    beside = {each.exec for each in binary.latency if each.place == own[0].place}
    assert {"fp32", "xnor:numba"} <= beside
    assert set(binary.latency_around) == {each.session for each in binary.latency}
    assert full.no_runtime == {"numba-xnor": "the engine runs binary models, not fp32"}
    assert "3 of them" not in run(tmp_path, "--runtime", "numba-xnor")
    assert records(tmp_path) - first == {"latency": 2}


def test_what_no_runtime_computes_is_said_in_the_suite_s_own_words(tmp_path: Path) -> None:
    bad = SUITE.replace("latency: {", "latency: {runtimes: [tensorrt], ")
    (tmp_path / "bad.yaml").write_text(bad)
    done = vitq("run", "bad.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "runtime" in done.stderr
    assert "tensorrt" in done.stderr
    assert vitq("run", "bad.yaml", "--runtime", "tensorrt", cwd=tmp_path).returncode == 2

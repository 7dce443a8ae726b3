"""A package beside vitq: its method, model, data set and runtime by the command line, marked wherever shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from places import vitq

import examples
from examples import EXAMPLES
from vitq.benchmarks.run.store import read_rows
from vitq.reports.latency_table import latency_table
from vitq.reports.row_view import row_view
from vitq.reports.run_tables import ablation_table, seeds_table
from vitq.reports.tables import FOREIGN, marked_id, results_table
from vitq.rows import Row

PACKAGE = "vitq-plugin 0.1.0"
ROOT = EXAMPLES.parent
CELL = "classification/faint-digits/faint_digits_vit"
PICKED = "faint and (fp32 or clipped) and not unclipped"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed under `site`, its suite, and a site file that names its model's weights."""
    root = tmp_path_factory.mktemp("plugin")
    examples.install("vitq-plugin", root / "site", root / "work")
    shutil.copy(EXAMPLES / "vitq-plugin" / "plugin.yaml", root)
    weights = ROOT / "tasks" / "weights" / "digits_vit.safetensors"
    (root / "vitq.toml").write_text(f'threads = 1\n[weights]\nfaint_digits_vit = "{weights}"\n')
    return root


def command(place: Path, *words: object) -> str:
    done = vitq(*words, cwd=place, env={"PYTHONPATH": str(place / "site"), "OMP_NUM_THREADS": "1", "COLUMNS": "400"})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def run(place: Path) -> str:
    return command(place, "run", "plugin.yaml", "-k", PICKED, "--limit", 60)


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("methods", "clipped"),
        ("models", "faint_digits_vit"),
        ("datasets", "faint-digits"),
        ("runtimes", "torchscript"),
    ],
)
def test_a_list_names_the_package_of_what_is_not_ours(place: Path, what: str, name: str) -> None:
    lines = command(place, "list", what).splitlines()
    (own,) = [line for line in lines if PACKAGE in line]
    assert own.startswith(name)


@pytest.mark.slow
def test_its_rows_are_in_the_table_with_marks(run: str) -> None:
    (row,) = [line for line in run.splitlines() if line.startswith("clipped§/")]
    assert "clipped§/classification/faint-digits§/faint_digits_vit§/W4A4/seed0/limit60" in row
    assert "fp32:torchscript§" in row
    (plain,) = [line for line in run.splitlines() if line.startswith("fp32/")]
    assert "faint_digits_vit§" in plain
    (note,) = [line for line in run.splitlines() if line.startswith(f"{FOREIGN} added by another package: ")]
    for what in ("data set faint-digits", "method clipped", "model faint_digits_vit", "runtime torchscript"):
        assert f"{what} by {PACKAGE}" in note


@pytest.mark.slow
def test_records_say_which_package_added_what(run: str, place: Path) -> None:
    assert run
    added = {line["cell"]["method"]: line["added_by"] for line in asked(place)}
    own = {"data set": PACKAGE, "model": PACKAGE, "runtime torchscript": PACKAGE}
    assert added == {"fp32": own, "clipped": {"method": PACKAGE, **own}}


@pytest.fixture
def rows(run: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The run's rows, read with the package installed here too."""
    assert run
    monkeypatch.syspath_prepend(place / "site")
    return read_rows(place / "results" / "plugin")


def asked(place: Path) -> list[dict[str, object]]:
    text = (place / "results" / "plugin" / "records.jsonl").read_text(encoding="utf-8")
    return [line for line in map(json.loads, text.splitlines()) if line["kind"] == "cell"]


@pytest.mark.slow
def test_a_faint_digit_is_read_by_its_model_as_a_digit_by_ours(rows: list[Row]) -> None:
    of = {row.cell.method: row for row in rows}
    assert 70 < of["fp32"].metrics["top1"].value < 100
    assert of["clipped"].metrics["top1"].value <= of["fp32"].metrics["top1"].value
    assert of["clipped"].status == of["fp32"].status == "done"
    assert {row.runtime for row in of["fp32"].latency} == {"torch", "torchscript"}
    assert "not fake-quant" in of["clipped"].no_runtime["torchscript"]


@pytest.mark.slow
def test_every_table_marks_it(rows: list[Row]) -> None:
    two = [row.model_copy(update={"cell": row.cell.asked(seed=seed)}) for row in rows for seed in (0, 1)]
    other = [row.model_copy(update={"cell": row.cell.asked(variant="v")}) for row in rows]
    for table in (results_table(rows), latency_table(rows), seeds_table(two), ablation_table([*rows, *other])):
        assert f"clipped{FOREIGN}" in table
        assert f"faint-digits{FOREIGN}" in table
    (row,) = [row for row in rows if row.cell.method == "clipped"]
    assert "method added by" in row_view(row)
    assert PACKAGE in row_view(row)
    assert "method by vitq-plugin 0.1.0" in results_table(rows, "csv")
    assert marked_id(row).count(FOREIGN) == 3


@pytest.mark.slow
def test_show_and_report_mark_it(run: str, place: Path) -> None:
    assert run
    shown = command(place, "show", f"clipped/{CELL}/W4A4/seed0/limit60", "--results", "results/plugin")
    assert f"{FOREIGN} added by another package" in shown
    command(place, "report", "plugin.yaml", "--out", "out")
    report = (place / "out" / "report.md").read_text(encoding="utf-8")
    assert f"clipped{FOREIGN}" in report
    assert "method clipped by vitq\\-plugin 0.1.0" in report or "method clipped by vitq-plugin 0.1.0" in report


@pytest.mark.slow
def test_records_of_a_method_that_is_gone_are_refused_in_one_line(run: str, place: Path) -> None:
    assert run
    done = vitq("show", "fp32", "--results", place / "results" / "plugin", cwd=place / "work")
    assert done.returncode == 2
    assert "is of method 'clipped', which this vitq does not have: install the package that adds it" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_the_package_its_suite_is_refused_in_one_line(place: Path) -> None:
    done = vitq("list", "cells", "plugin.yaml", cwd=place)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "faint" in done.stderr or "clipped" in done.stderr

"""The exact versions behind results, as pip takes them."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rows import HERE, asked, record, write_results

from vitq.benchmarks.constraints import main

VERSIONS = {name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy")}


def results(folder: Path, **packages: str) -> Path:
    where = HERE.model_copy(update={"packages": {**VERSIONS, **packages}})
    one = record("counts", provenance=where)
    return write_results(folder, one, asked(one.cell.id, one, provenance=where))


def test_records_and_all_that_their_packages_need_are_pinned(tmp_path: Path) -> None:
    results(tmp_path / "all" / "smoke")
    results(tmp_path / "all" / "digits")
    assert main([str(tmp_path / "all"), "--out", str(tmp_path / "constraints.txt")]) == 0
    text = (tmp_path / "constraints.txt").read_text()
    assert text.startswith("# Exact versions behind digits, smoke.\n# vitq 0.2.0; Python 3.12.3;")
    rows = [Requirement(line) for line in text.splitlines() if not line.startswith("#")]
    pins = {row.name: str(row.specifier) for row in rows}
    assert pins["torch"] == f"=={VERSIONS['torch'].partition('+')[0]}"
    assert {"timm", "numpy", "pydantic", "pydantic-core", "typer", "click"} <= set(pins)
    assert all(pin.startswith("==") for pin in pins.values())
    assert "vitq" not in pins
    assert list(pins) == sorted(pins)


@pytest.mark.parametrize(
    ("packages", "told"),
    [({"torch": "0.1"}, "run this where they were made"), ({"no-such-package": "1"}, "and here is none")],
)
def test_another_environment_is_refused(
    packages: dict[str, str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results(tmp_path / "r", **packages)
    assert main([str(tmp_path / "r"), "--out", str(tmp_path / "c.txt")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "c.txt").exists()


def test_results_of_two_versions_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results(tmp_path / "all" / "a")
    results(tmp_path / "all" / "b", timm="0.1")
    assert main([str(tmp_path / "all"), "--out", str(tmp_path / "c.txt")]) == 2
    assert "results were made with timm 0.1 and " in capsys.readouterr().err


def test_no_results_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--out", str(tmp_path / "c.txt")]) == 2
    assert "holds no results" in capsys.readouterr().err

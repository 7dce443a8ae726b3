"""The report as a whole, its pictures, and the front that they draw."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from option_facts import declared_by_hand

from vitq.record import Provenance
from vitq.reports.compare_plots import measured_against_reported
from vitq.reports.pareto import pareto_front
from vitq.reports.pictures import Picture, draw_method_pictures
from vitq.reports.report import write_report
from vitq.reports.size_plot import accuracy_against_size, points_by_panel
from vitq.reports.verdicts import compare as compare_by
from vitq.rows import Row

Make = Callable[..., Any]
OPTIONS = declared_by_hand()
compare = partial(compare_by, options=OPTIONS)
PNG = b"\x89PNG"


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(st.lists(st.tuples(st.integers(0, 9).map(float), st.integers(0, 9).map(float))))
def test_the_front_is_exactly_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points)
    assert {points[i] for i in front} == {p for p in points if not any(dominates(q, p) for q in points)}
    assert len({points[i] for i in front}) == len(front)
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_a_report_without_any_record_is_written(tmp_path: Path) -> None:
    text = write_report([], [], {}, tmp_path, tmp_path / "out").read_text()
    assert "nothing was run" in text
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_report_tells_what_was_run_and_what_went_wrong(record: Make, figure: Make, tmp_path: Path) -> None:
    other = Provenance(vitq="0.1.0", machine="gpu box", gpu="a GPU", git_commit="abcdef0123456", git_dirty=True)
    records = [
        record(69.0, seed=0, warnings=["few images"]),
        record(68.0, seed=1, provenance=other),
        record(None, method="pmq", status="oom", error="out of memory", fidelity="reconstruction"),
        record(None, method="i_vit", status="unsupported", error="8 bit only"),
        record(60.0, dataset="imagenet-proxy", n=744),
    ]
    out = tmp_path / "out"
    text = write_report(
        records, [figure(), figure(value=78.0, disputed_low=68, disputed_high=69)], OPTIONS, tmp_path, out
    ).read_text()
    for words in ("few images", "gpu box", "with local changes", "oom: `pmq", "unsupported: `i_vit", "reconstruction:"):
        assert words in text
    for words in ("other data: imagenet-proxy", "| reproduced", "| disputed"):
        assert words in text
    for name in ("accuracy_against_size.png", "measured_against_reported.png", "differences.png"):
        assert (out / name).read_bytes()[:4] == PNG
        assert f"({name})" in text
    assert (out / "results.csv").read_text().count("\n") == 6
    assert "disputed" in (out / "compare.csv").read_text()


def test_pictures_are_the_same_bytes_twice(record: Make, tmp_path: Path) -> None:
    files = [accuracy_against_size([record()], tmp_path / name)[0].file for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_panels_hold_means_over_seeds_of_finished_runs(record: Make) -> None:
    records = [record(68.0, seed=0), record(70.0, seed=1), record(None, bits="W6A6", status="failed")]
    panels = points_by_panel(records)
    assert list(panels) == [("top1", "imagenet-1k", "deit_small_patch16_224.fb_in1k")]
    assert [(p.accuracy, p.size) for p in next(iter(panels.values()))] == [(69.0, 11.5)]


def test_without_a_figure_there_is_nothing_to_compare(record: Make, tmp_path: Path) -> None:
    assert measured_against_reported(compare([record()], []), tmp_path) == []


@pytest.fixture
def drawing_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("vitq.reports.made_plots")
    monkeypatch.setitem(sys.modules, "vitq.reports.made_plots", module)
    return module


def test_a_method_draws_from_its_own_finished_records(record: Make, tmp_path: Path, drawing_module: ModuleType) -> None:
    seen: list[str] = []

    def draw(records: Sequence[Row], results: Path, out: Path) -> list[Picture]:
        seen.extend(r.cell.id for r in records)
        (out / "made.png").write_bytes(PNG)
        return [Picture(out / "made.png", "Made", f"from {results.name}")]

    drawing_module.draw = draw  # type: ignore[attr-defined]
    records = [record(), record(method="made"), record(None, method="made", status="failed", seed=3)]
    drawn, problems = draw_method_pictures(records, tmp_path, tmp_path / "out", {"made": "made_plots"})
    assert seen == [records[1].cell.id]
    assert [(p.title, p.caption) for p in drawn] == [("Made", f"from {tmp_path.name}")]
    assert problems == []


def test_a_picture_that_fails_is_named_and_costs_nothing_else(
    record: Make, tmp_path: Path, drawing_module: ModuleType
) -> None:
    def draw(records: Sequence[Row], results: Path, out: Path) -> list[Picture]:
        raise FileNotFoundError("images.safetensors is gone")

    drawing_module.draw = draw  # type: ignore[attr-defined]
    drawn, problems = draw_method_pictures([record(method="made")], tmp_path, tmp_path, {"made": "made_plots"})
    assert drawn == []
    assert "images.safetensors is gone" in problems[0]

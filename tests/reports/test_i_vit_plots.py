"""I-ViT's pictures are drawn from records' details alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.image import imread

from vitq.details.i_vit import Curve, Details
from vitq.record import CellKey, Provenance
from vitq.reports.i_vit_plots import difference_table, draw
from vitq.reports.pictures import draw_method_pictures
from vitq.rows import Row


def row(operator: str, variant: str, size: float) -> Curve:
    error = [0.0, size, -size / 2]
    return Curve(
        operator=operator, variant=variant, unit="u", max_error=size, mean_error=size / 2, x=[0.0, 1.0, 2.0],
        error=error,
    )  # fmt: skip


ROWS = [
    row("softmax", "shiftmax, paper, 8 bit", 0.1),
    row("softmax", "shiftmax, release, 16 bit", 0.01),
    row("gelu", "shift, paper", 0.2),
    row("layernorm", "integer, paper", 1e-4),
    row("requantization", "nearest, paper", 0.5),
]


DETAILS = Details(calibration_batches=1, training=[], operators=ROWS).model_dump(mode="json")


def record(model: str, details: dict[str, Any]) -> Row:
    cell = CellKey(
        id=f"i_vit/classification/{model}/W8A8/seed0", method="i_vit", task="classification", dataset="digits",
        model=model, bits="W8A8",
    )  # fmt: skip
    return Row(cell=cell, status="done", details=details, provenance=Provenance(vitq="0"))


def test_a_pair_of_pictures_a_model(tmp_path: Path) -> None:
    records = [record("digits_vit", DETAILS), record("digits_swin", DETAILS)]
    pictures, problems = draw_method_pictures(records, tmp_path, tmp_path / "out")
    assert problems == []
    assert len(pictures) == 4
    for picture in pictures:
        assert picture.file.name.startswith("i_vit_plots_")
        assert imread(picture.file).std() > 0.01
        assert "digits" in picture.caption


def test_equal_records_draw_equal_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        draw([record("digits_vit", DETAILS)], tmp_path, tmp_path / folder)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_nothing_to_draw(tmp_path: Path) -> None:
    assert draw([record("digits_vit", {})], tmp_path, tmp_path) == []


def test_the_table_keeps_operators_together_and_the_best_first() -> None:
    table = difference_table(ROWS)
    assert [line[1] for line in table[:2]] == ["shiftmax, release, 16 bit", "shiftmax, paper, 8 bit"]
    assert [line[0] for line in table] == ["softmax", "softmax", "gelu", "layernorm", "requantization"]

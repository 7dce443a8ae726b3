"""PSAQ-ViT's pictures and its statement about generated images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vitq.record import Metric
from vitq.reports.pictures import draw_method_pictures
from vitq.reports.psaq_plots import draw, source_rows, source_table
from vitq.rows import Row

CURVES = {"iteration": [1, 2, 3], "entropy": [1.0, 0.5, 0.1], "difference": [None, 0.1, 0.2], "total": [2.0, 1.0, 0.5]}


Maker = Callable[..., Row]


@pytest.fixture
def psaq(record: Maker) -> Maker:
    """Maker of a row of PSAQ-ViT on the digits."""

    def make(source: str, top1: float, seed: int = 0, *, stderr: float = 0.2, **changes: Any) -> Row:
        details = {
            "calibration": source, "residual": "quantized", "images": None if source == "real" else 32,
            "residual_ranges": {"blocks.0.add1": (-1.0, 2.0)}, "seconds": {"images": 1.0, "calibrate": 0.5},
        }  # fmt: skip
        defaults: dict[str, Any] = {
            "method": "psaq_vit", "variant": source, "options": {"calibration": source}, "bits": "W4A8",
            "model": "digits_vit", "dataset": "digits",
            "details": details | ({"curves": CURVES} if source == "generated" else {}),
            "metrics": {"top1": Metric(value=top1, n=600, stderr=stderr)},
        }  # fmt: skip
        return record(seed=seed, **(defaults | changes))

    return make


def rows(psaq: Maker, generated: float, gaussian: float, real: float) -> list[Row]:
    found = [psaq("generated", generated + d, seed) for seed, d in enumerate((-1.0, 0.0, 1.0))]
    return [*found, psaq("gaussian", gaussian), psaq("real", real)]


def test_seeds_are_averaged_with_the_larger_error(psaq: Maker) -> None:
    (row, *_) = source_rows(rows(psaq, 90, 70, 91))
    assert (row.source, row.mean, row.values) == ("generated", 90.0, (89.0, 90.0, 91.0))
    assert row.error == pytest.approx(1 / 3**0.5)
    (single,) = source_rows([psaq("real", 91, stderr=0.7)])
    assert single.error == 0.7


@pytest.mark.parametrize(
    ("gaussian", "real", "says"),
    [
        (70, 91, ["generated images beat Gaussian noise by 10 points or more (+20.00", "they tie with real images"]),
        (85, 99, ["generated images do not beat Gaussian noise by 10 points or more (+5.00", "are worse than real"]),
        (95, 80, ["do not beat Gaussian noise by 10 points or more (-5.00", "are better than real images"]),
    ],
)
def test_the_table_says_plainly_what_generated_images_are_worth(
    gaussian: float, real: float, says: list[str], psaq: Maker
) -> None:
    table = source_table(rows(psaq, 90, gaussian, real))
    assert all(said in table for said in says)
    assert "| digits" in table


def test_variants_of_a_model_share_its_pictures(psaq: Maker, tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (30, 20)).save(tmp_path / f"{name}.png")
    runs = [
        psaq("generated", 90, variant="", files={"contact_sheet": "a.png"}),
        psaq("generated", 91, variant="no[thing]", files={"contact_sheet": "b.png"}),
    ]
    pictures = draw(runs, tmp_path, tmp_path)
    assert [p.file.name for p in pictures] == [
        f"psaq_plots_{what}_digits_digits_vit.png" for what in ("images", "losses")
    ]
    assert "Images of variants are among the artifacts: psaq_vit[no[thing]]" in pictures[0].caption
    assert [row["run"] for row in pictures[1].rows] == ["psaq_vit", "psaq_vit[no[thing]]"]
    assert pictures[1].rows[0]["last total"] == "0.5"


def test_other_widths_and_variants_are_not_mixed(psaq: Maker) -> None:
    apart = [psaq("generated", 90), psaq("generated", 95, bits="W8A8")]
    apart.append(psaq("generated", 40, options={"calibration": "generated", "drop_token": "class"}))
    assert sorted(row.mean for row in source_rows(apart)) == [40, 90, 95]
    assert source_table([]) == ""


def test_pictures_are_drawn_from_records_and_files(tmp_path: Path, psaq: Maker) -> None:
    results, out = tmp_path / "results", tmp_path / "out"
    (results / "files").mkdir(parents=True)
    Image.new("RGB", (10, 10), "red").save(results / "files" / "sheet.png")
    first = psaq("generated", 90, files={"contact_sheet": "files/sheet.png"})
    pictures, problems = draw_method_pictures([first, psaq("gaussian", 60)], results, out)
    assert problems == []
    assert [p.file.name.split("_")[2] for p in pictures] == ["images", "losses", "sources.png"]
    for picture in pictures:
        with Image.open(picture.file) as image:
            assert min(image.size) >= 10
    assert "beat Gaussian noise" in pictures[-1].caption


def test_the_second_versions_curves_are_drawn_and_its_rows_are_no_calibration_sources(
    tmp_path: Path, record: Maker
) -> None:
    details = {
        "generation": "adaptive", "student_training": True, "amp": False, "images": 32, "curves": CURVES,
        "terms": {"difference": True, "patch_similarity": True, "total_variation": True},
        "cycles": [{"cycle": 0.0, "difference_before": 0.2, "difference_after": 0.1}],
        "residual_ranges": {}, "seconds": {"images": 1.0, "train": 2.0},
    }  # fmt: skip
    row = record(method="psaq_vit_v2", details=details)
    assert [p.file.name.split("_")[2] for p in draw([row], tmp_path, tmp_path)] == ["losses"]
    assert source_rows([row]) == []


def test_a_row_that_was_counted_alone_is_left_out(psaq: Maker) -> None:
    assert source_rows([psaq("real", 90, details={})]) == []


def test_there_is_nothing_to_draw_without_generated_images(tmp_path: Path, psaq: Maker) -> None:
    assert draw([psaq("real", 90)], tmp_path, tmp_path) == []

"""BinaryViT's pictures are drawn from records' details alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from vitq.record import CellKey, Provenance
from vitq.reports.binary_vit_plots import draw, row_name
from vitq.reports.pictures import draw_method_pictures
from vitq.rows import Row

EPOCHS = 6


def details(seed: int) -> dict[str, Any]:
    bins = [0.0] * 60
    bins[20] = bins[40] = 0.5
    training = [
        {"epoch": float(e), "loss": 2.0 / (e + 1 + seed), "lr": 1e-3, "flipped_share": 0.1 / (e + 1)}
        | ({"top1": 80.0} if e % 2 else {})
        for e in range(EPOCHS)
    ]
    side = {"reach": 3.0, "shares": bins, "near_boundary": 0.1}
    spread = {f"blocks.{i}.attn.qkv.input": {"before": 0.5 + i, "after": 0.1} for i in range(3)}
    widest = {"input": "blocks.2.attn.qkv.input", "before": [3.0, -1.0, 2.0], "after": [0.1, -0.1, 0.0]}
    means = {"spread": spread, "widest": widest}
    weights, flipped = {"before": side, "after": side}, [row["flipped_share"] for row in training]
    return {"training": training, "weights": weights, "flipped_share": flipped, "activation_means": means}


def record(seed: int = 0, **changes: Any) -> Row:
    options = changes.pop("options", {})
    fields: dict[str, Any] = {"details": details(seed)} | changes
    cell = CellKey(
        id=f"binary_vit/classification/digits_vit/W1A1/seed{seed}-{options}", method="binary_vit", options=options,
        task="classification", dataset="digits", model="digits_vit", bits="W1A1", seed=seed,
    )  # fmt: skip
    return Row(cell=cell, status="done", provenance=Provenance(vitq="0"), **fields)


@pytest.mark.parametrize(
    ("options", "name"),
    [({}, "+GRS +ASM"), ({"asm": False}, "+GRS"), ({"grs": False}, "+ASM"), ({"grs": False, "asm": False}, "baseline")],
)
def test_rows_of_the_ablation_are_named_by_their_options(options: dict[str, Any], name: str) -> None:
    assert row_name(record(options=options)) == name


def test_three_pictures_of_a_model_with_all_its_rows(tmp_path: Path) -> None:
    records = [
        record(seed, options={"grs": grs, "asm": asm})
        for seed in range(2)
        for grs in (True, False)
        for asm in (True, False)
    ]
    pictures, problems = draw_method_pictures(records, tmp_path, tmp_path / "out")
    assert problems == []
    assert [p.file.name for p in pictures] == [
        f"binary_vit_plots_digits_vit_{k}.png" for k in ("weights", "training", "means")
    ]
    for picture in pictures:
        pixels = imread(picture.file)
        assert min(pixels.shape[:2]) > 200
        assert pixels.std() > 0.05
        assert "digits_vit" in picture.title
    assert "baseline: 2 seeds" in pictures[0].caption


def test_one_row_without_a_validation_curve_is_drawn_too(tmp_path: Path) -> None:
    given = details(0)
    for row in given["training"]:
        row.pop("top1", None)
    assert len(draw([record(details=given)], tmp_path, tmp_path)) == 3


def test_records_without_training_give_nothing(tmp_path: Path) -> None:
    untrained = record(details=details(0) | {"training": []})
    assert draw([untrained], tmp_path, tmp_path) == []
    assert draw([record(details={})], tmp_path, tmp_path) == []
    assert draw([], tmp_path, tmp_path) == []

"""Rows of detection and segmentation in tables, pictures' axes and verdicts: told by box AP, mask AP and mIoU."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from option_facts import declared_by_hand

from vitq import metrics
from vitq.record import Metric
from vitq.reports import figure as figures
from vitq.reports.run_tables import seeds_table
from vitq.reports.size_plot import points_by_panel
from vitq.reports.tables import results_table
from vitq.reports.verdicts import compare as compare_by
from vitq.rows import Row

Make = Callable[..., Any]
compare = partial(compare_by, options=declared_by_hand())
DETECTOR = {
    "task": "detection",
    "dataset": "coco-2017",
    "model": "mask_rcnn_swin_tiny.x",
    "paper_name": "mask_rcnn_swin_tiny",
}


def both(box: float, mask: float, n: int = 5_000) -> dict[str, Metric]:
    named = {"box_ap": box, "box_ap50": box + 20, "mask_ap": mask, "mask_ap50": mask + 20}
    return {name: Metric(value=value, n=n, stderr=0.4) for name, value in named.items()}


@pytest.fixture
def detector(record: Make) -> Callable[..., Row]:
    def make(box: float = 36.3, mask: float = 36.1, seed: int = 0, n: int = 5_000) -> Row:
        name = f"repq_vit/detection/coco-2017/mask_rcnn_swin_tiny.x/W4A4/seed{seed}"
        made: Row = record(None, seed=seed, id=name, metrics=both(box, mask, n), **DETECTOR)
        return made.model_copy(update={"fp32": both(46.0, 41.6)})

    return make


def test_tasks_are_told_by_their_main_metrics() -> None:
    told = {task: metrics.main_metrics(task) for task in ("classification", "detection", "segmentation", "other")}
    assert told == {
        "classification": ("top1",),
        "detection": ("box_ap", "mask_ap"),
        "segmentation": ("miou",),
        "other": (),
    }
    assert [metrics.label(name) for name in ("top1", "box_ap", "mask_ap_s", "miou", "strange")] == [
        "top-1 accuracy", "box AP", "mask AP, small", "mIoU", "strange",
    ]  # fmt: skip


def test_every_figure_of_a_dense_task_is_of_a_main_metric() -> None:
    dense = [f for f in figures.load_figures() if f.task != "classification" and f.metric in figures.ACCURACY]
    assert {f.metric for f in dense} == {"box_ap", "mask_ap", "miou"}
    assert all(f.metric in metrics.main_metrics(f.task) for f in dense)


def test_a_detector_is_shown_with_both_metrics(detector: Callable[..., Row], record: Make) -> None:
    alone = results_table([detector()])
    assert "box_ap 36.30 ± 0.40, mask_ap 36.10 ± 0.40" in alone
    assert "46.00, 41.60" in alone
    assert "9.70, 5.50" in alone
    assert "accuracy % ± se" in alone
    assert "top-1" not in alone
    together = results_table([detector(), record(69.0)])
    assert "top1 69.00 ± 0.21" in together


def test_csv_has_a_column_a_metric(detector: Callable[..., Row]) -> None:
    row = next(csv.DictReader(io.StringIO(results_table([detector()], "csv"))))
    assert (float(row["box_ap"]), float(row["mask_ap50"]), float(row["mask_ap_fp32"])) == (36.3, 56.1, 41.6)


def test_seeds_and_sizes_are_shown_by_each_main_metric(detector: Callable[..., Row]) -> None:
    rows = [detector(seed=0), detector(36.5, 36.3, seed=1)]
    table = seeds_table(rows)
    assert "box_ap" in table
    assert "mask_ap" in table
    assert "ap50" not in table
    assert {key[0] for key in points_by_panel(rows)} == {"box_ap", "mask_ap"}


@pytest.mark.parametrize(
    ("metric", "value", "fp_value", "n", "verdict", "reason"),
    [
        ("box_ap", 36.1, 46.0, 5_000, "reproduced", "tolerance"),
        ("mask_ap", 36.0, 41.6, 5_000, "reproduced", "tolerance"),
        ("box_ap", 38.0, 46.0, 5_000, "below", "tolerance"),
        ("mask_ap", 36.0, 43.3, 5_000, "not-comparable", "FP32 mask_ap is 41.60, the figure's is 43.3"),
        ("box_ap", 36.1, 46.0, 47, "not-comparable", "a subset: 47 of 5,000 images"),
        ("miou", 36.1, 46.0, 5_000, "not-comparable", "the record has no miou"),
    ],
)
def test_figures_are_held_against_their_own_metric_and_its_fp32(
    metric: str, value: float, fp_value: float, n: int, verdict: str, reason: str,
    detector: Callable[..., Row], figure: Make,
) -> None:  # fmt: skip
    printed = figure(
        task="detection", dataset="coco-2017", model="mask_rcnn_swin_tiny", metric=metric, value=value,
        fp_value=fp_value, decimals=1, tolerance=0.3,
    )  # fmt: skip
    found = next(c for c in compare([detector(n=n)], [printed]) if c.figure is not None)
    assert found.verdict == verdict
    assert reason in found.reason

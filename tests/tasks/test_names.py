"""Names are known without torch, and a wrong one is answered with the nearest right ones."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from vitq.errors import BadInputError
from vitq.tasks import names, registry


def test_every_model_of_the_papers_is_there_once_and_pinned() -> None:
    papers = [e.paper_name for e in names.model_entries().values() if e.paper_name]
    assert sorted(papers) == sorted(
        [
            *("vit_small", "vit_base", "deit_tiny", "deit_small", "deit_base", "swin_tiny", "swin_small", "swin_base"),
            *("mask_rcnn_swin_tiny", "mask_rcnn_swin_small", "upernet_swin_tiny", "upernet_swin_small"),
            *(f"cascade_mask_rcnn_swin_{size}" for size in ("tiny", "small", "base")),
        ]
    )
    assert all("." in e.name for e in names.model_entries().values() if e.hub)
    assert names.paper_name("deit_small_patch16_224.fb_in1k") == "deit_small"
    assert names.paper_name("digits_vit") is None


def test_expected_accuracies_are_figures_of_the_papers(shared: Path) -> None:
    with (shared / "papers" / "figures.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    known = {(r["dataset"], r["metric"], r["model"], float(r["fp_value"])) for r in rows if r["fp_value"]}
    checked = Counter()
    for entry in names.model_entries().values():
        for dataset, metrics in entry.expected.items() if entry.paper_name else ():
            for metric, value in metrics.items():
                if entry.paper_name != "cascade_mask_rcnn_swin_base":  # its README alone has it
                    assert (dataset, metric, entry.paper_name, value) in known
                    checked[dataset] += 1
    assert checked == {"imagenet-1k": 8, "coco-2017": 8, "ade20k": 2}


def test_preprocessing_is_the_papers() -> None:
    for name, entry in names.model_entries().items():
        how = entry.preprocessing
        if name.startswith("deit"):
            assert (how.crop_pct, how.mean[0]) == (0.875, 0.485)
        elif name.startswith("swin"):
            assert (how.crop_pct, how.mean[0]) == (0.9, 0.485)
        elif name.startswith("vit"):
            assert (how.crop_pct, how.mean[0]) == (0.9, 0.5)


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(BadInputError, match="deit_small_patch16_224"):
        names.model_entry("deit_smal_patch16_224.fb_in1k")
    with pytest.raises(BadInputError, match="did you mean 'classification'"):
        registry.load("clasification")
    with pytest.raises(BadInputError, match="known:"):
        names.model_entry("zzz")


def test_names_need_no_torch() -> None:
    code = "import sys; from vitq.tasks import names; names.model_entries(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["digits_vit", "digits_swin"])
def test_cards_describe_the_weights(name: str) -> None:
    card = names.card(name)
    assert card.made_by == "python -m vitq.benchmarks.train_digits"
    assert 85 <= card.validation.top1 < 95
    assert card.bytes < 2_000_000
    assert card.data["license"] == "CC BY 4.0"
    assert names.model_entry(name).sha256 == card.sha256

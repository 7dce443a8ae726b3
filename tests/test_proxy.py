"""A real ViT-Tiny on 744 real photographs by the command line, against what the authors' released code gives there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from places import vitq

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("proxy")]

RELEASED = {
    "fp32/classification/vit_tiny_patch16_224/FP32/seed0": (87.77, 0.15),
    "repq_vit/classification/vit_tiny_patch16_224/W4A4/seed0": (26.75, 2.0),
    "repq_vit/classification/vit_tiny_patch16_224/W6A6/seed0": (81.99, 0.8),
    "repq_vit/classification/vit_tiny_patch16_224/W8A8/seed0": (83.60, 0.5),
    "psaq_vit[real]/classification/vit_tiny_patch16_224/W8A8/seed0": (0.27, 0.5),
    "i_vit[release-post-training]/classification/vit_tiny_patch16_224/W8A8/seed0": (75.67, 1.5),
}
"""Cell id: top-1 of the released code (percent) and how far ours may be from it."""


@pytest.fixture(scope="module")
def top1(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    root = tmp_path_factory.mktemp("proxy")
    data = shared / "data"
    (root / "vitq.toml").write_text(
        f'hub = false\nthreads = 1\n[datasets]\nimagenet-proxy = "{data / "imagenet-proxy"}"\n'
        f'[weights]\nfolder = "{data / "weights"}"\n'
    )
    others = "psaq_vit[real-residual-fp] and W8A8 or (pmq/ or pmq[uniform]) and W4A4"
    pick = " or ".join([*(f"({cell})" for cell in RELEASED), others])
    done = vitq("run", "proxy", "-k", pick, "--results", "r", cwd=root, timeout=1800)
    assert done.returncode == 0, done.stderr
    records = map(json.loads, (root / "r" / "records.jsonl").read_text().splitlines())
    found = {r["cell"]["id"]: r["metrics"]["top1"] for r in records}
    assert {metric["n"] for metric in found.values()} == {744}
    return {cell: metric["value"] for cell, metric in found.items()}


@pytest.mark.parametrize("cell", RELEASED)
def test_top1_is_the_released_codes(top1: dict[str, float], cell: str) -> None:
    reported, tolerance = RELEASED[cell]
    assert top1[cell] == pytest.approx(reported, abs=tolerance)


def test_the_residual_alone_destroys_psaq_on_this_model(top1: dict[str, float]) -> None:
    quantized, kept = (
        top1[f"psaq_vit[{variant}]/classification/vit_tiny_patch16_224/W8A8/seed0"]
        for variant in ("real", "real-residual-fp")
    )
    assert quantized < 1
    assert kept > 50


def test_pmq_beats_uniform_widths_of_equal_size(top1: dict[str, float]) -> None:
    name = "/classification/vit_tiny_patch16_224/W4A4/seed0"
    assert top1[f"pmq{name}"] > top1[f"pmq[uniform]{name}"] + 2

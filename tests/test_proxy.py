"""A real ViT-Tiny on 744 real photographs by the command line, against what the authors' released code gives there."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from places import vitq

from vitq.benchmarks.run.store import read_rows

pytestmark = pytest.mark.slow

IMAGES = 744


def noise(flips: float) -> float:
    """Points that top-1 may differ by where float noise flips this share of predictions: two standard deviations.

    Every flip is taken to move top-1 by one image, up or down alike, as in McNemar's test.
    """
    return 200 * math.sqrt(flips * IMAGES) / IMAGES


RELEASED = {
    "fp32/classification/imagenet-proxy/vit_tiny_patch16_224/FP32/seed0": (87.77, 0.15),
    "repq_vit/classification/imagenet-proxy/vit_tiny_patch16_224/W4A4/seed0": (26.75, noise(2 * 0.2675 * 86 / 124)),
    "repq_vit/classification/imagenet-proxy/vit_tiny_patch16_224/W6A6/seed0": (81.99, noise(9 / 248)),
    "repq_vit/classification/imagenet-proxy/vit_tiny_patch16_224/W8A8/seed0": (83.60, noise(9 / 248)),
    "psaq_vit[real]/classification/imagenet-proxy/vit_tiny_patch16_224/W8A8/seed0": (0.27, 0.5),
    "i_vit[release-post-training]/classification/imagenet-proxy/vit_tiny_patch16_224/W8A8/seed0": (75.67, 0.5),
}
"""Cell id: top-1 of the released code (percent) and how far ours may be from it.

RepQ-ViT's grids follow the last bit of every activation: noise of 1e-7 on the images flips 9 of 248 predictions of the
released code itself at W8A8, and no fewer are taken to flip at W6A6; of ours at W4A4 it flips 86 of 124, of which those
count that were right before or after. So top-1 proves little here; what is held exactly are grids, codes and logits of
small models (tests/methods/test_repq_vit_parity.py).
"""


@pytest.fixture(scope="module")
def top1(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    root = tmp_path_factory.mktemp("proxy")
    data = shared / "data"
    (root / "vitq.toml").write_text(
        f'[datasets]\nimagenet-proxy = "{data / "imagenet-proxy"}"\n[weights]\nfolder = "{data / "weights"}"\n'
    )
    others = "psaq_vit[real-residual-fp] and W8A8 or (pmq/ or pmq[uniform]) and W4A4"
    pick = " or ".join([*(f"({cell})" for cell in RELEASED), others])
    done = vitq("run", "proxy", "-k", pick, "--results", "r", cwd=root, timeout=1800)
    assert done.returncode == 0, done.stderr
    found = {row.cell.id: row.metrics["top1"] for row in read_rows(root / "r")}
    assert {metric.n for metric in found.values()} == {IMAGES}
    return {cell: metric.value for cell, metric in found.items()}


@pytest.mark.parametrize("cell", RELEASED)
def test_top1_is_the_released_codes(top1: dict[str, float], cell: str) -> None:
    reported, tolerance = RELEASED[cell]
    assert top1[cell] == pytest.approx(reported, abs=tolerance)


def test_the_residual_alone_destroys_psaq_on_this_model(top1: dict[str, float]) -> None:
    quantized, kept = (
        top1[f"psaq_vit[{variant}]/classification/imagenet-proxy/vit_tiny_patch16_224/W8A8/seed0"]
        for variant in ("real", "real-residual-fp")
    )
    assert quantized < 1
    assert kept > 50


def test_pmq_beats_uniform_widths_of_equal_size(top1: dict[str, float]) -> None:
    name = "/classification/imagenet-proxy/vit_tiny_patch16_224/W4A4/seed0"
    assert top1[f"pmq{name}"] > top1[f"pmq[uniform]{name}"] + 2

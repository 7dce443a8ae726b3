"""A real ViT-Tiny on 744 real photographs by the command line, against what the authors' released code gives there."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from importlib import resources
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


CELL = "classification/imagenet-proxy/vit_tiny_patch16_224"
RELEASED = {
    f"fp32/{CELL}/FP32/seed0": (87.77, 0.15),
    f"repq_vit/{CELL}/W4A4/seed0": (26.75, noise(2 * 0.2675 * 86 / 124)),
    f"psaq_vit[real]/{CELL}/W8A8/seed0": (0.27, 0.5),
}
"""Cell id: top-1 of the released code (percent) and how far ours may be from it.

RepQ-ViT's grids follow the last bit of every activation: noise of 1e-7 on the images flips 9 of 248 predictions of the
released code itself at W8A8, and no fewer are taken to flip at W6A6; of ours at W4A4 it flips 86 of 124, of which those
count that were right before or after. So top-1 proves little here; what is held exactly are grids, codes and logits of
small models (tests/methods/repq_vit/test_repq_vit_parity.py).
"""
RELEASED_TOO = {
    f"repq_vit/{CELL}/W6A6/seed0": (81.99, noise(9 / 248)),
    f"repq_vit/{CELL}/W8A8/seed0": (83.60, noise(9 / 248)),
    f"i_vit[release-post-training]/{CELL}/W8A8/seed0": (75.67, 0.5),
}
"""As RELEASED; what takes minutes more."""
MINMAX = f"minmax/{CELL}/W8A8/seed0"
RESIDUAL_KEPT = f"psaq_vit[real-residual-fp]/{CELL}/W8A8/seed0"
PMQ, UNIFORM = (f"{method}/{CELL}/W4A4/seed0" for method in ("pmq", "pmq[uniform]"))


def top1_of(cells: Iterable[str], data: Path, root: Path) -> dict[str, float]:
    """Run these cells of the proxy suite, without its timings, by the command line; top-1 of each."""
    suite = (resources.files("vitq.benchmarks") / "suites" / "proxy.yaml").read_text(encoding="utf-8")
    untimed = re.sub(r"^latency: .*\n", "", suite, flags=re.MULTILINE)
    assert untimed != suite
    (root / "untimed.yaml").write_text(untimed, encoding="utf-8")
    (root / "vitq.toml").write_text(
        f'[datasets]\nimagenet-proxy = "{data / "imagenet-proxy"}"\n[weights]\nfolder = "{data / "weights"}"\n'
    )
    done = vitq("run", "untimed.yaml", "-k", " or ".join(cells), "--results", "r", cwd=root, timeout=1800)
    assert done.returncode == 0, done.stderr
    found = {row.cell.id: row.metrics["top1"] for row in read_rows(root / "r")}
    assert {metric.n for metric in found.values()} == {IMAGES}
    return {cell: metric.value for cell, metric in found.items()}


@pytest.fixture(scope="module")
def top1(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return top1_of([*RELEASED, MINMAX], shared / "data", tmp_path_factory.mktemp("proxy"))


@pytest.fixture(scope="module")
def more_top1(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return top1_of([*RELEASED_TOO, RESIDUAL_KEPT, PMQ, UNIFORM], shared / "data", tmp_path_factory.mktemp("long"))


@pytest.mark.parametrize("cell", RELEASED)
def test_top1_is_the_released_codes(top1: dict[str, float], cell: str) -> None:
    reported, tolerance = RELEASED[cell]
    assert top1[cell] == pytest.approx(reported, abs=tolerance)


def test_plain_ranges_of_eight_bits_cost_little(top1: dict[str, float]) -> None:
    assert top1[f"repq_vit/{CELL}/W4A4/seed0"] + 20 < top1[MINMAX] < top1[f"fp32/{CELL}/FP32/seed0"]


@pytest.mark.long
@pytest.mark.parametrize("cell", RELEASED_TOO)
def test_top1_is_the_released_codes_too(more_top1: dict[str, float], cell: str) -> None:
    reported, tolerance = RELEASED_TOO[cell]
    assert more_top1[cell] == pytest.approx(reported, abs=tolerance)


@pytest.mark.long
def test_the_residual_alone_destroys_psaq_on_this_model(top1: dict[str, float], more_top1: dict[str, float]) -> None:
    assert top1[f"psaq_vit[real]/{CELL}/W8A8/seed0"] < 1
    assert more_top1[RESIDUAL_KEPT] > 50


@pytest.mark.long
def test_pmq_beats_uniform_widths_of_equal_size(more_top1: dict[str, float]) -> None:
    assert more_top1[PMQ] > more_top1[UNIFORM] + 2

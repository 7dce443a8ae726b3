"""PMQ on the backbone of a detector, whose images differ in size and whose head may never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import detector
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.pmq import method as pmq
from vitq.methods.pmq.patch_quantizers import PatchQuantizer
from vitq.methods.toolkit import saving
from vitq.methods.toolkit.layers import QConv2d, QLinear

BITS = Bits.parse("W4A4")
OPTIONS: dict[str, dict[str, Any]] = {
    "pareto": {"frontier_points": 64},
    "squared": {"frontier_points": 64, "perturbation": "squared", "labels": "task"},
    "leave one out": {"allocation": "leave_one_out", "cost": "bitops", "widths": (3, 4, 6)},
    "patch-wise": {"frontier_points": 64, "patch_wise": True, "patch_saving": 0.05},
    "random": {"allocation": "random"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_backbone_alone_is_quantized(name: str) -> None:
    before, subject = detector.make_detector(), detector.subject()
    quantized = pmq.quantize(subject, BITS, pmq.Options(**OPTIONS[name]))
    model: Any = quantized.model
    for part in ("neck", "head"):
        assert type(getattr(model, part)) is type(getattr(before, part))
        for key, value in getattr(before, part).state_dict().items():
            assert torch.equal(getattr(model, part).state_dict()[key], value)
    inside = [m for m in model.modules() if isinstance(m, (QLinear, QConv2d))]
    assert len(inside) == len([m for m in model.backbone.modules() if isinstance(m, (QLinear, QConv2d))]) > 10
    assert any(isinstance(m, PatchQuantizer) for m in model.modules()) == (name == "patch-wise")
    assert next(c.name for c in quantized.details.components) == "patch_embed.proj"  # type: ignore[attr-defined]
    with torch.no_grad():
        for batch in subject.calibration():
            found = detector.forward(model, batch)
            assert len(found) == len(batch)
        batch = detector.example()
        assert detector.digest(detector.forward(model, batch)) != detector.digest(detector.forward(before, batch))


@pytest.mark.parametrize("name", ["pareto", "patch-wise"])
def test_a_saved_backbone_computes_the_same(name: str, tmp_path: Path) -> None:
    options = pmq.Options(**OPTIONS[name])
    quantized = pmq.quantize(detector.subject(), BITS, options)
    saved: Any = quantized.model
    path = saving.save(Quantized(saved.backbone, facts=quantized.facts), tmp_path / "backbone", {}).path
    again: Any = detector.make_detector()
    again.backbone = saving.fill(pmq.restore(again.backbone, BITS, options, quantized.facts), path)
    batch = detector.example()
    with torch.no_grad():
        assert detector.digest(detector.forward(again, batch)) == detector.digest(detector.forward(saved, batch))

"""PSAQ-ViT without labels to draw: a detector's and a segmenter's backbone, images of the priors alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vitq import mm
from vitq.methods.bits import Bits
from vitq.methods.registry import load as load_method
from vitq.options import make_options
from vitq.tasks.base import Places
from vitq.tasks.registry import load as load_task

pytestmark = pytest.mark.skipif(mm.why_absent() is not None, reason=str(mm.why_absent()))
CASES = {
    "detection": ("digits_mask_rcnn", "digit-scenes"),
    "segmentation": ("digits_upernet_vit", "digit-scenes-maps"),
}
OPTIONS = {
    "psaq_vit": {"iterations": 2, "images": 2},
    "psaq_vit_v2": {"cycles": 1, "image_steps": 2, "training_steps": 1, "images": 2},
}


@pytest.mark.parametrize("task", CASES)
@pytest.mark.parametrize("method", OPTIONS)
def test_a_backbone_is_quantized_without_labels_and_without_data(task: str, method: str, tmp_path: Path) -> None:
    of, made = load_task(task), load_method(method)
    model, dataset = CASES[task]
    loaded = of.load_model(model, Places())
    data = of.open_data(dataset, loaded, Places(), limit=2, seed=0, calibration={"images": 2, "batch": 2})
    subject = of.subject(loaded, data, scope="backbone", artifacts=tmp_path)
    done = made.quantize(subject, Bits.parse("W8A8"), make_options(made.Options, OPTIONS[method]))
    curves = done.details.curves
    assert curves is not None
    assert curves.one_hot is None
    assert curves.entropy is not None
    before, after = loaded.model.state_dict(), done.model.state_dict()
    assert all(torch.equal(t, after[k]) for k, t in before.items() if not k.startswith("backbone."))
    batch = next(data.validation())
    with torch.no_grad():
        one, other = (of.forward(each, batch) for each in (loaded.model, done.model))
    assert float(of.distance(one, other)) > 0

"""PSAQ-ViT without labels to draw: a detector's and a segmenter's backbone, images of the priors alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vitq import mm
from vitq.methods.architectures.roles import roles_of
from vitq.methods.bits import Bits
from vitq.methods.psaq_vit import patch_similarity as ps
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


def test_padding_of_a_detectors_windows_is_no_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of 32, 16 and 8 in windows of 7: the last stage's windows are padding for the most part."""
    model = load_task("detection").load_model("digits_mask_rcnn", Places()).model
    patches: list[int] = []
    entropy = ps.similarity_entropy

    def watched(similarity: torch.Tensor, h: float, k: int, windows: int, inside: torch.Tensor) -> torch.Tensor:
        assert similarity.shape[0] == 2 * windows
        patches.append(int(inside.sum()))
        return entropy(similarity, h, k, windows, inside)

    monkeypatch.setattr(ps, "similarity_entropy", watched)
    with torch.no_grad(), ps.PatchEntropy(model.backbone, 0.01, 10, "class") as seen:
        model.extract_feat(torch.randn(2, 3, 128, 128))
        assert torch.isfinite(seen.take())
    sizes = [round(a.layout().max().item() + 1) for a in roles_of(model.backbone).attentions if a.layout is not None]
    assert patches == sizes == [32**2, 32**2, 16**2, 16**2, 8**2, 8**2]

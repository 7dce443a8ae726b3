"""PSAQ-ViT and V2 on the backbone of a detector: nothing outside of it changes, and the model runs on all it ran on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import detector
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vitq.errors import UnsupportedError
from vitq.methods.bits import Bits
from vitq.methods.psaq_vit import method as psaq_vit
from vitq.methods.psaq_vit_v2 import method as psaq_vit_v2
from vitq.methods.toolkit import saving
from vitq.methods.toolkit.nodes import NodeConv2d, NodeLinear
from vitq.subject import put_part

W4A8 = Bits(4, 8)
SHORT = {"images": 3, "iterations": 3}
GAME = {**SHORT, "cycles": 2, "image_steps": 2, "training_steps": 3, "student_lr": 1e-2}
CASES: list[tuple[Any, Any]] = [
    (psaq_vit, psaq_vit.Options(images=3, iterations=3)),
    (psaq_vit, psaq_vit.Options(images=3, calibration="gaussian")),
    (psaq_vit, psaq_vit.Options(calibration="real", residual="fp")),
    (psaq_vit_v2, psaq_vit_v2.Options(**GAME)),  # type: ignore[arg-type]
    (psaq_vit_v2, psaq_vit_v2.Options(**GAME, generation="psaq_vit")),  # type: ignore[arg-type]
]


def outside(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in model.state_dict().items() if not name.startswith("backbone.")}


@pytest.mark.parametrize(("method", "options"), CASES)
def test_the_backbone_alone_is_quantized(method: Any, options: Any, tmp_path: Path) -> None:
    subject = detector.subject(artifacts=tmp_path)
    before, neck, head = outside(subject.model), subject.model.neck, subject.model.head
    done = method.quantize(subject, W4A8, options)
    assert (done.model.neck, done.model.head) == (neck, head)
    assert (type(neck), type(head)) == (nn.Conv2d, nn.Linear)
    assert all(parameter.requires_grad for parameter in (*neck.parameters(), *head.parameters()))
    after = outside(done.model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    layers = [name for name, m in done.model.named_modules() if isinstance(m, (NodeLinear, NodeConv2d))]
    assert len(layers) == 4 * 4 + 1 + 1  # four blocks, the merging between the stages and the embedding
    assert all(name.startswith("backbone.") for name in layers)
    assert set(done.details.residual_ranges) == {
        f"layers.{stage}.blocks.{block}.add{k}" for stage in range(2) for block in range(2) for k in (1, 2)
    }
    for batch in [*detector.calibration(), detector.example()]:
        assert len(subject.forward(done.model, batch)) == len(batch)


@pytest.mark.parametrize(("method", "options"), CASES)
def test_a_saved_backbone_is_filled_again(method: Any, options: Any, tmp_path: Path) -> None:
    done = method.quantize(detector.subject(artifacts=tmp_path), W4A8, options)
    file = saving.save(done, tmp_path / "model.safetensors", {})
    empty = detector.make_detector(seed=1)
    put_part(empty, "backbone", method.restore(empty.backbone, W4A8, options, done.facts))
    read = saving.fill(empty, file.path)
    with torch.no_grad():
        outputs = [detector.digest(detector.forward(model, detector.example())) for model in (done.model, read)]
    assert outputs[0] == outputs[1]


def test_an_end_that_no_image_reaches_has_no_grid_and_is_a_fact(tmp_path: Path) -> None:
    """The backbone's own pooling stands in the model, and the detector never runs it."""
    done = psaq_vit.quantize(detector.subject(artifacts=tmp_path), W4A8, psaq_vit.Options(calibration="real"))
    assert done.facts == {"unreached": ["head.global_pool"]}
    assert done.model.backbone.head.global_pool.output_quantizer is None
    assert done.model.backbone.norm.output_quantizer.fitted


def test_a_classifier_that_no_image_reaches_is_quantized_all_the_same(tmp_path: Path) -> None:
    model = detector.make_detector()
    model.backbone.reset_classifier(5, "avg")
    done = psaq_vit.quantize(detector.subject(model, artifacts=tmp_path), W4A8, psaq_vit.Options(calibration="real"))
    assert done.facts == {"unreached": ["head.global_pool", "head.fc"]}
    assert isinstance(done.model.backbone.head.fc, NodeLinear)
    assert done.model.backbone.head.fc.weight_quantizer.fitted


def test_generated_images_are_of_the_backbones_input(tmp_path: Path) -> None:
    done = psaq_vit.quantize(detector.subject(artifacts=tmp_path), W4A8, psaq_vit.Options(images=2, iterations=4))
    assert load_file(done.files["images"])["images"].shape == (2, *detector.INPUT.size)
    assert done.details.curves.entropy
    assert done.details.curves.one_hot


@pytest.mark.parametrize(("method", "options"), CASES)
def test_a_scope_without_attention_is_unsupported_in_one_line(method: Any, options: Any, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="roles attention") as caught:
        method.quantize(detector.subject(scope="neck", artifacts=tmp_path), W4A8, options)
    assert "\n" not in str(caught.value)

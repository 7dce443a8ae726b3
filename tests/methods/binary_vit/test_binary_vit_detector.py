"""BinaryViT on the backbone of a detector: nothing outside of it changes, and the model runs on all it ran on."""

from __future__ import annotations

from pathlib import Path

import detector
import pytest
import torch
from torch import nn

from vitq.methods.binary_vit import method as binary_vit
from vitq.methods.binary_vit.packed import PackedLinear, PackedMatMul
from vitq.methods.bits import Bits
from vitq.methods.toolkit import saving
from vitq.subject import put_part

W1A1 = Bits(1, 1)


def outside(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in model.state_dict().items() if not name.startswith("backbone.")}


@pytest.mark.parametrize("epochs", [0, 2])
def test_the_backbone_alone_becomes_binary(epochs: int, tmp_path: Path) -> None:
    subject = detector.subject(artifacts=tmp_path)
    before, options = outside(subject.model), binary_vit.Options(epochs=epochs, lr=1e-2, validate_every=1)
    neck, head = subject.model.neck, subject.model.head
    done = binary_vit.quantize(subject, W1A1, options)
    assert done.model.neck is neck
    assert done.model.head is head
    after = outside(done.model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    binary = [name for name, m in done.model.named_modules() if isinstance(m, (PackedLinear, PackedMatMul))]
    assert len(binary) == 4 * 6 + 1
    assert all(name.startswith("backbone.") for name in binary)
    assert [row.metrics for row in done.details.training] == [{"box_ap": 0.0}] * epochs
    for batch in [*detector.calibration(), detector.example()]:
        assert len(subject.forward(done.model, batch)) == len(batch)


def test_a_saved_backbone_is_filled_again(tmp_path: Path) -> None:
    options = binary_vit.Options(epochs=1, lr=1e-2)
    done = binary_vit.quantize(detector.subject(artifacts=tmp_path), W1A1, options)
    file = saving.save(done, tmp_path / "model.safetensors", {})
    empty = detector.make_detector(seed=1)
    put_part(empty, "backbone", binary_vit.restore(empty.backbone, W1A1, options, done.facts))
    read = saving.fill(empty, file.path)
    with torch.no_grad():
        outputs = [detector.digest(detector.forward(model, detector.example())) for model in (done.model, read)]
    assert outputs[0] == outputs[1]

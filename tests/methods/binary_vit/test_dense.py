"""BinaryViT on the backbones of detectors and segmenters, trained on scenes against the model's own feature maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dense_subjects as dense
import pytest
import torch
from torch import nn

from vitq.methods.base import Quantized
from vitq.methods.binary_vit import method as binary_vit
from vitq.methods.binary_vit.packed import PackedLinear, PackedMatMul
from vitq.methods.bits import Bits
from vitq.methods.toolkit import saving
from vitq.methods.toolkit.stored import HasOperands
from vitq.subject import part_of, put_part

W1A1 = Bits(1, 1)
MODELS = pytest.mark.parametrize("name", dense.MODELS)
BINARY = {"detector": 4 * 6 + 1, "swin_segmenter": 4 * 6 + 1, "vit_segmenter": 2 * 6}
"""Four layers and two products a block, and a merging."""


def quantized(name: str, folder: Path, **options: Any) -> Quantized:
    return binary_vit.quantize(dense.subject(name, folder), W1A1, binary_vit.Options(**{"lr": 1e-2} | options))


@MODELS
@pytest.mark.parametrize("options", [{"epochs": 0}, {"epochs": 1}, {"epochs": 1, "distillation": False}])
def test_the_backbone_alone_becomes_binary(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    done = quantized(name, tmp_path, **options)
    assert dense.same_outside(done.model, dense.make(name))
    binary = [path for path, m in done.model.named_modules() if isinstance(m, (PackedLinear, PackedMatMul))]
    assert len(binary) == BINARY[name]
    assert all(path.startswith("backbone.") for path in binary)
    assert [row.metrics for row in done.details.training] == [{"miou": 0.0}] * options["epochs"]
    for seed in (5, 6):
        with torch.no_grad():
            output = dense.forward(done.model, dense.scenes(seed))
        assert all(bool(tensor.isfinite().all()) for tensor in output)


@MODELS
def test_training_brings_the_feature_maps_nearer(name: str, tmp_path: Path) -> None:
    real = dense.make(name)
    far = []
    for epochs in (0, 8):
        model = quantized(name, tmp_path, epochs=epochs, lr=5e-3, validate_every=100).model
        with torch.no_grad():
            outputs = [dense.forward(m, dense.scenes(100)) for m in (model, real)]
        far.append(float(dense.distill(*outputs)))
    assert far[1] < far[0]


@MODELS
def test_the_packed_form_is_the_training_form(name: str, tmp_path: Path) -> None:
    subject = dense.subject(name, tmp_path)
    subject.put(binary_vit.prepare(subject.part, W1A1, binary_vit.Options()))
    binary_vit.calibrate(subject)
    with torch.no_grad():
        before = [dense.digest(dense.forward(subject.model, dense.scenes(seed))) for seed in (5, 6, 7)]
        subject.put(binary_vit.packed.pack(subject.part))
        after = [dense.digest(dense.forward(subject.model, dense.scenes(seed))) for seed in (5, 6, 7)]
    assert before == after


@MODELS
def test_a_saved_model_comes_back(name: str, tmp_path: Path) -> None:
    done, options = quantized(name, tmp_path, epochs=1), binary_vit.Options(epochs=1, lr=1e-2)
    file = saving.save(done, tmp_path / "saved", {"scope": "backbone"})
    fresh = dense.make(name, seed=1)
    part = binary_vit.restore(part_of(fresh, "backbone"), W1A1, options, done.facts)
    again = saving.fill(put_part(fresh, "backbone", part), file.path)
    for seed in (5, 6):
        digests = [dense.digest(dense.forward(m, dense.scenes(seed))) for m in (again, done.model)]
        assert digests[0] == digests[1]


@MODELS
def test_what_multiplies_says_its_widths(name: str, tmp_path: Path) -> None:
    part = part_of(quantized(name, tmp_path, epochs=0).model, "backbone")
    widths = {path: module.operand_bits() for path, module in part.named_modules() if isinstance(module, HasOperands)}
    assert set(widths.values()) == {(1, 1)}
    real = [path for path, module in part.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    assert real == ["patch_embed.projection"]

"""RepQ-ViT on a whole detector: shared heads, padding, what is left alone, and a saved model that comes back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import vitq
from vitq import mm
from vitq.methods.architectures.roles import roles_of
from vitq.methods.bits import Bits
from vitq.methods.registry import load as load_method
from vitq.methods.repq_vit.first_pass import first_pass
from vitq.methods.repq_vit.layernorm_reparam import layernorm_pairs, reparameterize
from vitq.methods.repq_vit.options import Options
from vitq.methods.toolkit import saving
from vitq.methods.toolkit.layers import QConv2d, QLinear
from vitq.methods.toolkit.modules import named_quantizers
from vitq.subject import Subject
from vitq.tasks.base import LoadedModel, Places
from vitq.tasks.names import model_entry
from vitq.tasks.registry import load as load_task

pytestmark = pytest.mark.skipif(mm.why_absent() is not None, reason=str(mm.why_absent()))
TASK = load_task("detection")
METHOD = load_method("repq_vit")


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return TASK.load_model("digits_mask_rcnn", Places())


def subject(loaded: LoadedModel, scope: str) -> Subject:
    data = TASK.open_data("digit-scenes", loaded, Places(), limit=4, seed=0, calibration={"images": 2, "batch": 2})
    return TASK.subject(loaded, data, scope=scope)


def found(model: nn.Module, given: Subject) -> Any:
    batch = next(given.calibration())
    with torch.no_grad():
        return TASK.forward(model, batch)


@pytest.mark.parametrize("exact", [True, False])
def test_a_rewritten_norm_leaves_the_detector_as_it_is_if_its_padding_goes_along(
    loaded: LoadedModel, exact: bool
) -> None:
    """Maps of 32, 16 and 8 are no multiples of the window of 7: every block pads."""
    given = subject(loaded, "backbone")
    before, model = found(loaded.model, given), copy.deepcopy(loaded.model)
    torch.manual_seed(0)
    for pair in layernorm_pairs(roles_of(model.backbone)):
        channels = pair.norm.weight.shape[0]
        scale, zero = torch.rand(channels) + 0.5, torch.rand(channels) * 10
        moved = pair if exact else type(pair)(pair.norm, pair.layer)
        reparameterize(moved, scale, zero, rounded=False)
    after = found(model, given)
    apart = max(float((a - b).abs().max()) for a, b in zip(before.features, after.features, strict=True))
    if not exact:
        assert apart > 1e-2
        return
    assert apart < 1e-4
    for one, other in zip(before.found, after.found, strict=True):
        assert torch.equal(one["labels"], other["labels"])
        torch.testing.assert_close(one["boxes"], other["boxes"], rtol=1e-4, atol=1e-2)


def test_a_shared_head_is_calibrated_on_every_level_or_on_the_first(loaded: LoadedModel) -> None:
    grids = {}
    for shared in ("all", "first"):
        given = subject(loaded, "model")
        METHOD.prepare(given.part, Bits.parse("W8A8"), Options())
        with torch.no_grad():
            assert first_pass(given, roles_of(given.part), shared) == []
        quantizers = named_quantizers(given.part)
        assert {q.mode for q in quantizers.values()} == {"on"}
        grids[shared] = {path: q.scale.clone() for path, q in quantizers.items() if path.endswith("input_quantizer")}
    differ = {
        path.partition(".")[0] for path in grids["all"] if not torch.equal(grids["all"][path], grids["first"][path])
    }
    assert "rpn_head" in differ
    assert "backbone" not in differ
    assert "neck" not in differ


def test_the_backbone_alone_leaves_neck_and_heads_and_the_whole_does_not(loaded: LoadedModel) -> None:
    quantized = METHOD.quantize(subject(loaded, "backbone"), Bits.parse("W4A4"), Options()).model
    layers = [path for path, module in quantized.named_modules() if isinstance(module, (QLinear, QConv2d))]
    assert layers
    assert all(path.startswith("backbone.") for path in layers)
    before, after = loaded.model.state_dict(), quantized.state_dict()
    for key, tensor in before.items():
        if not key.startswith("backbone."):
            assert torch.equal(tensor, after[key]), key
    whole = METHOD.quantize(subject(loaded, "model"), Bits.parse("W8A8"), Options()).model
    tops = {path.partition(".")[0] for path, module in whole.named_modules() if isinstance(module, (QLinear, QConv2d))}
    assert tops == {"backbone", "neck", "rpn_head", "roi_head"}
    assert isinstance(whole.roi_head.mask_head.upsample, nn.ConvTranspose2d)


@pytest.mark.parametrize("padding", ["exact", "released"])
def test_the_option_says_what_padding_becomes(loaded: LoadedModel, padding: Any) -> None:
    done = METHOD.quantize(subject(loaded, "backbone"), Bits.parse("W8A8"), Options(padding=padding))
    pads = [path for path, buffer in done.model.named_buffers() if path.endswith("pad_value")]
    blocks = len(roles_of(done.model.backbone).blocks)
    assert len(pads) == (blocks if padding == "exact" else 0)


@pytest.mark.parametrize("method", ["minmax", "repq_vit"])
@pytest.mark.parametrize("scope", ["backbone", "model"])
def test_a_saved_detector_finds_the_same_to_the_bit(
    loaded: LoadedModel, scope: str, method: str, tmp_path: Path
) -> None:
    """The file is read back by `vitq.load`, which builds the detector anew from its header."""
    made, bits = load_method(method), "W4A4"
    given = subject(loaded, scope)
    done = made.quantize(given, Bits.parse(bits), made.Options())
    entry = model_entry("digits_mask_rcnn").model_dump(mode="json")
    header = {
        "method": method, "bits": bits, "options": vars(made.Options()), "scope": scope, "exec": done.exec,
        "facts": done.facts, "architecture": {"task": "detection", "model": entry},
    }  # fmt: skip
    file = saving.save(done, tmp_path / "m", header)
    before, after = found(done.model, given), found(vitq.load(file.path), given)
    assert sum(len(each["boxes"]) for each in before.found) > 0
    assert TASK.digest(after) == TASK.digest(before)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    if scope == "model":
        assert file.path.stat().st_size < parameters  # under a byte each, at 4 bit


def test_a_detector_that_proposes_nothing_leaves_its_heads_in_floating_point(loaded: LoadedModel) -> None:
    given = subject(loaded, "model")
    given.model.rpn_head.test_cfg = copy.deepcopy(given.model.rpn_head.test_cfg)
    given.model.rpn_head.test_cfg.min_bbox_size = 10**6
    done = METHOD.quantize(given, Bits.parse("W4A4"), Options())
    unreached = done.facts["unreached"]
    assert {path.partition(".")[0] for path in unreached} == {"roi_head"}
    assert all(done.model.get_submodule(path.rpartition(".")[0]).input_quantizer is None for path in unreached)
    assert all(len(each["boxes"]) == 0 for each in found(done.model, given).found)

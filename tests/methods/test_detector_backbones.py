"""The baselines and RepQ-ViT on a detector's backbone: what is outside stays as it was, and what is inside is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import detector
import pytest
import torch
from torch import nn

from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.fp32 import method as fp32
from vitq.methods.minmax import method as minmax
from vitq.methods.repq_vit import method as repq_vit
from vitq.methods.repq_vit.log_quantizers import LogQuantizer
from vitq.methods.toolkit import saving
from vitq.methods.toolkit.layers import QConv2d, QLinear
from vitq.methods.toolkit.modules import named_quantizers
from vitq.subject import part_of, put_part


class Case(NamedTuple):
    """A method, its widths and options."""

    method: Any
    bits: str
    options: Any


CASES = {
    "fp32": Case(fp32, "FP32", fp32.Options()),
    "minmax": Case(minmax, "W8A8", minmax.Options()),
    "repq_vit": Case(repq_vit, "W4A4", repq_vit.Options()),
    "repq_vit-channel": Case(repq_vit, "W8A8", repq_vit.Options(layernorm="channel", softmax="uniform")),
}
ALL = pytest.mark.parametrize("name", CASES)


def quantized(name: str, scope: str = "backbone") -> Quantized:
    case = CASES[name]
    done: Quantized = case.method.quantize(detector.subject(scope=scope), Bits.parse(case.bits), case.options)
    return done


def outputs(model: nn.Module) -> list[str]:
    with torch.no_grad():
        return [detector.digest(detector.forward(model, batch)) for batch in detector.calibration()]


@ALL
def test_only_the_backbone_is_quantized_and_the_detector_still_runs(name: str) -> None:
    model, before = quantized(name).model, detector.make_detector()
    assert isinstance(model, detector.Detector)
    for part in ("neck", "head"):
        now, was = model.get_submodule(part), before.get_submodule(part)
        assert type(now) is type(was)
        assert all(torch.equal(a, b) for a, b in zip(now.parameters(), was.parameters(), strict=True))
    assert (outputs(model) == outputs(before)) == (name == "fp32")
    inside = [path for path, module in model.named_modules() if isinstance(module, (QLinear, QConv2d))]
    assert all(path.startswith("backbone.") for path in [*inside, *named_quantizers(model)])
    assert len(inside) == (0 if name == "fp32" else 1 + 4 * 4 + 1)  # patches, four layers a block, one merging
    assert all(quantizer.mode == "on" for quantizer in named_quantizers(model).values())


@ALL
def test_the_same_twice(name: str) -> None:
    assert outputs(quantized(name).model) == outputs(quantized(name).model)


@ALL
def test_a_saved_detector_is_filled_with_the_same_bits(name: str, tmp_path: Path) -> None:
    case, done = CASES[name], quantized(name)
    file = saving.save(done, tmp_path / "m", {})
    fresh = detector.make_detector(seed=1)
    part = case.method.restore(part_of(fresh, "backbone"), Bits.parse(case.bits), case.options, done.facts)
    filled = saving.fill(put_part(fresh, "backbone", part), file.path)
    assert outputs(filled) == outputs(done.model)


def test_repq_vit_reads_what_the_roles_say_in_a_backbone_too() -> None:
    model = quantized("repq_vit").model
    quantizers = named_quantizers(model)
    assert quantizers["backbone.patch_embed.proj.input_quantizer"].bits == repq_vit.PATCH_EMBED_BITS
    logarithmic = [path for path, quantizer in quantizers.items() if isinstance(quantizer, LogQuantizer)]
    assert len(logarithmic) == 4
    assert all(path.endswith(".av.left") for path in logarithmic)
    pads = [buffer for path, buffer in model.named_buffers() if path.endswith("pad_value")]
    assert len(pads) == 4


@pytest.mark.parametrize("name", ["minmax", "repq_vit"])
def test_a_head_in_scope_that_never_ran_stays_in_floating_point_and_the_model_says_so(
    name: str, tmp_path: Path
) -> None:
    """A head that nothing was proposed to: its weight has a grid, its input none, now and as it is read back."""
    case = CASES[name]
    subject = detector.subject(scope="model", calibration=lambda: iter([[torch.zeros(3, 32, 20)]]))
    with pytest.warns(UserWarning, match=r"no calibration image reached head\.input_quantizer: what it would"):
        done = case.method.quantize(subject, Bits.parse(case.bits), case.options)
    assert done.facts == {"unreached": ["head.input_quantizer"]}
    assert done.model.head.input_quantizer is None
    assert done.model.head.weight_quantizer.mode == "on"
    file = saving.save(done, tmp_path / "m", {})
    part = case.method.restore(detector.make_detector(seed=1), Bits.parse(case.bits), case.options, done.facts)
    assert outputs(saving.fill(part, file.path)) == outputs(done.model)


@pytest.mark.parametrize("name", ["minmax", "repq_vit"])
def test_with_the_scope_of_the_backbone_nobody_asks_for_a_head_that_never_ran(name: str) -> None:
    case = CASES[name]
    subject = detector.subject(scope="backbone", calibration=lambda: iter([[torch.zeros(3, 32, 20)]]))
    assert case.method.quantize(subject, Bits.parse(case.bits), case.options).facts == {}


@pytest.mark.parametrize("name", ["minmax", "repq_vit"])
def test_the_whole_detector_can_be_the_scope(name: str) -> None:
    model = quantized(name, scope="model").model
    assert isinstance(model.get_submodule("head"), QLinear)
    assert isinstance(model.get_submodule("neck"), QConv2d)
    patches, neck = (model.get_submodule(path) for path in ("backbone.patch_embed.proj", "neck"))
    width = Bits.parse(CASES[name].bits).a
    assert neck.operand_bits()[0] == width  # type: ignore[operator]
    assert patches.operand_bits()[0] == (repq_vit.PATCH_EMBED_BITS if name == "repq_vit" else width)  # type: ignore[operator]
    assert outputs(model)

"""A timm backbone inside an mm configuration: its blocks are found and made explicit within the wrappers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from vitq import mm
from vitq.methods.architectures.explicit import MatMul, make_explicit
from vitq.methods.architectures.roles import roles_of
from vitq.methods.bits import Bits
from vitq.methods.registry import METHODS, load
from vitq.methods.toolkit.layers import QConv2d

pytestmark = pytest.mark.skipif(mm.why_absent() is not None, reason=str(mm.why_absent()))

SWIN = "swin_tiny_patch4_window7_224"
BACKBONES: dict[str, dict[str, Any]] = {
    "swin": {"model_name": SWIN, "img_size": (96, 128)},
    "swin_last_stages": {"model_name": SWIN, "img_size": (100, 132), "out_indices": (2, 3)},
    "vit": {"model_name": "vit_tiny_patch16_224", "img_size": (64, 96)},
    "deit": {"model_name": "deit_tiny_patch16_224", "img_size": 64, "out_indices": (3, 11)},
}
SIZES = {"swin": (96, 128), "swin_last_stages": (100, 132), "vit": (64, 96), "deit": (64, 64)}


def segmenter(name: str) -> Any:
    """mmsegmentation's encoder and decoder around a timm backbone, with random weights."""
    mm.prepare()
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    torch.manual_seed(0)
    backbone = {"type": "mmseg.TIMMBackbone", "pretrained": False, **BACKBONES[name]}
    channels = MODELS.build(backbone).timm_model.feature_info.channels()
    head = {
        "type": "mmseg.FCNHead", "in_channels": channels[-1], "in_index": len(channels) - 1, "channels": 8,
        "num_classes": 3, "norm_cfg": {"type": "BN"},
    }  # fmt: skip
    config = {"type": "mmseg.EncoderDecoder", "backbone": backbone, "decode_head": head, "test_cfg": {"mode": "whole"}}
    return MODELS.build(config).eval()


@pytest.mark.parametrize("name", BACKBONES)
def test_the_function_stays_what_it_was(name: str) -> None:
    model, x = segmenter(name), torch.randn(2, 3, *SIZES[name])
    explicit = make_explicit(copy.deepcopy(model))
    with torch.no_grad():
        for ours, theirs in zip(explicit.backbone(x), model.backbone(x), strict=True):  # type: ignore[operator]
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        if "swin" not in name:  # timm gives a Swin's maps as [B, H, W, C], which no head of mm takes
            logits = explicit.decode_head(explicit.extract_feat(x))  # type: ignore[operator]
            torch.testing.assert_close(logits, model.decode_head(model.extract_feat(x)), rtol=0, atol=1e-5)
    known = roles_of(explicit)
    assert known.family == ("timm_swin" if "swin" in name else "timm_vit")
    assert sum(isinstance(m, MatMul) for m in explicit.modules()) == 2 * len(known.attentions) == 24


@pytest.mark.parametrize("name", BACKBONES)
def test_roles_name_every_layer_of_the_backbone_once(name: str) -> None:
    known = roles_of(segmenter(name).backbone)
    named = [p for b in known.blocks for p in (b.attention.qkv, b.attention.proj, b.mlp.fc1, b.mlp.fc2)]
    named += [m.reduction for m in known.mergings] + [str(known.embedding.projection)]
    layers = [n for n, m in known.model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert sorted(named) == sorted(layers)
    assert {merging.before for merging in known.mergings} <= {block.path for block in known.blocks}


@pytest.mark.parametrize("name", ["swin", "vit"])
def test_a_method_finds_the_patch_embedding(name: str) -> None:
    method = load("repq_vit")
    part = method.prepare(segmenter(name).backbone, Bits(w=4, a=4), METHODS.load("repq_vit", "options").Options())
    (embedding,) = [module for module in part.modules() if isinstance(module, QConv2d)]
    assert embedding.operand_bits() == (8, 4)

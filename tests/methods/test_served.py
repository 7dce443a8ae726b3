"""Ten timm models that vitq has never named, by every method: served, or refused in one line that says why."""

from __future__ import annotations

import pytest
import timm
import torch
from subjects import subject_of
from torch import nn

from vitq.errors import BadInputError
from vitq.methods import registry
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.served import serves

WIDTHS = {"fp32": "FP32", "i_vit": "W8A8", "binary_vit": "W1A1"}
INTEGER = "I-ViT does not serve {}, of which it has no integer form"
VITS = {
    "vit_small_patch14_dinov2.lvd142m": "LayerScale at blocks.0",
    "vit_base_patch16_clip_224.openai": "a norm before the blocks",
    "deit3_small_patch16_224.fb_in1k": "no position embedding, or one without the class token",
    "vit_so150m_patch16_reg4_gap_256.sbb_e250_in12k_ft_in1k": "register tokens",
}
"""Served by every method but I-ViT, and the first reason of its refusal."""
OTHERS = {
    "swinv2_tiny_window8_256.ms_in1k": "SwinTransformerV2Block: cosine attention with a learnt scale",
    "eva02_tiny_patch14_224.mim_in22k": "EvaBlock: attention with rotary positions",
    "beit_base_patch16_224.in22k_ft_in22k_in1k": "Block: attention whose biases of queries and values are no",
    "cait_xxs24_224.fb_dist_in1k": "LayerScaleBlock: attention that mixes its heads before and after the softmax",
    "levit_128s.fb_dist_in1k": "LevitBlock: attention on convolutions or linear layers with batch normalization",
    "convnext_tiny.fb_in1k": "ConvNeXtBlock: depthwise convolutions and no attention",
}
"""Of families that no adapter knows, and what the refusal of every method says of their blocks."""
METHODS = sorted(all_cards())


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name)


@pytest.mark.parametrize("name", VITS)
def test_a_vit_of_another_kind_is_served_by_all_but_i_vit(name: str) -> None:
    model = on_meta(name)
    told = {method: serves(model, method, WIDTHS.get(method, "W4A4")) for method in METHODS}
    assert told == {**dict.fromkeys(METHODS), "i_vit": INTEGER.format(VITS[name])}
    assert all(parameter.is_meta for parameter in model.parameters())
    assert not hasattr(model.blocks[0].attn, "qk")  # type: ignore[index, union-attr]


@pytest.mark.parametrize("name", OTHERS)
def test_a_network_that_no_adapter_knows_is_refused_by_all_that_quantize(name: str) -> None:
    model = on_meta(name)
    for method in METHODS:
        reason = serves(model, method, WIDTHS.get(method, "W4A4"))
        assert (reason is None) == (method == "fp32"), (method, reason)
        if reason is not None:
            assert f"(its blocks are {OTHERS[name]}" in reason
            assert "are missing" in reason
            assert "\n" not in reason


def test_widths_and_options_are_asked_of_the_method_first() -> None:
    model = on_meta("vit_tiny_patch16_224")
    assert serves(model, "binary_vit", "W4A4") == all_cards()["binary_vit"].supports.reason
    with pytest.raises(BadInputError, match="did you mean 'minmax'"):
        serves(model, "minmx", "W4A4")


@pytest.mark.parametrize("name", ["deit3_small_patch16_224.fb_in1k", "vit_small_patch14_dinov2.lvd142m"])
def test_what_is_said_to_be_served_is_quantized(name: str) -> None:
    """The networks as timm builds them, two blocks deep and for small images."""
    torch.manual_seed(0)
    model = timm.create_model(name, depth=2, img_size=56 if "14" in name else 64, num_classes=7).eval()
    minmax, side = registry.load("minmax"), model.patch_embed.img_size[0]  # type: ignore[union-attr, index]
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        before = model(images)
        done = minmax.quantize(subject_of(model, [images], side), Bits(8, 8), minmax.Options()).model
        after = done(images)
    assert (after - before).norm() < 0.1 * before.norm()
    assert not torch.equal(after, before)

"""Explicit forms compute what timm computes, with or without masks, registers and padding."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitq.methods.architectures.explicit import MatMul, make_explicit
from vitq.methods.architectures.roles import roles_of

MODELS = {
    "vit": lambda: VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2),
    "vit_registers": lambda: VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2, reg_tokens=2, no_embed_class=True
    ),
    "vit_pooled": lambda: VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2, class_token=False, global_pool="avg"
    ),
    "swin_padded": lambda: SwinTransformer(
        img_size=36, patch_size=2, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_function_stays_what_it_was(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    x = torch.randn(2, 3, *((36, 36) if "swin" in name else (32, 32)))
    explicit = make_explicit(copy.deepcopy(model))
    with torch.no_grad():
        torch.testing.assert_close(explicit(x), model(x), rtol=1e-4, atol=1e-5)
    assert list(explicit.state_dict()) == list(model.state_dict())
    products = sum(isinstance(m, MatMul) for m in explicit.modules())
    assert products == 2 * len(roles_of(explicit).attentions) > 0


def test_twice_is_once() -> None:
    model = make_explicit(MODELS["vit"]())
    before = list(model.named_modules())
    assert list(make_explicit(model).named_modules()) == before


def test_attention_mask_is_added() -> None:
    torch.manual_seed(0)
    model = MODELS["vit"]().eval()
    attention = model.blocks[0].attn
    x, mask = torch.randn(2, 17, 32), torch.randn(17, 17)
    expected = copy.deepcopy(attention)(x, attn_mask=mask)
    make_explicit(model)
    torch.testing.assert_close(attention(x, attn_mask=mask), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="causal"):
        attention(x, is_causal=True)


def test_models_of_the_papers_are_served() -> None:
    counts = {"deit_small_patch16_224": 12, "vit_base_patch16_224": 12, "swin_tiny_patch4_window7_224": 12}
    for name, layers in counts.items():
        with torch.device("meta"):
            model = timm.create_model(name)
        assert len(roles_of(model).attentions) == layers
    other = nn.Sequential(nn.Linear(1, 1))
    assert make_explicit(other) is other
    assert [type(module) for module in other.modules()] == [nn.Sequential, nn.Linear]

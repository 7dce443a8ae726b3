"""PSAQ-ViT's nodes by name and in order, as they were before they were asked for as roles."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitq.methods.bits import Bits
from vitq.methods.psaq_vit import method as psaq_vit
from vitq.methods.psaq_vit_v2 import method as psaq_vit_v2

AFTER_ATTENTION = ["norm2", "mlp.act", "mlp.fc2", "add1", "add2"]
BLOCK = ["norm1", "attn.qkv", "attn.proj", "attn.av", "attn.logits", *AFTER_ATTENTION]
SWIN_BLOCK = [
    "norm1",
    "attn.qkv",
    "attn.proj",
    "attn.av",
    "attn.bias_add",
    "attn.bias",
    "attn.logits",
    *AFTER_ATTENTION,
]
VIT_BLOCKS = [f"blocks.{i}.{node}" for i in range(2) for node in BLOCK]
POSITIONS = ["tokens", "position", "position_add"]
SWIN = [
    "patch_embed.proj",
    "patch_embed.norm",
    *(f"layers.0.blocks.{i}.{node}" for i in range(2) for node in SWIN_BLOCK),
    "layers.1.downsample.norm",
    "layers.1.downsample.reduction",
    *(f"layers.1.blocks.0.{node}" for node in SWIN_BLOCK),
    "norm",
    "head.global_pool",
    "head.fc",
]


def vit() -> nn.Module:
    return VisionTransformer(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=5)


def averaged() -> nn.Module:
    return VisionTransformer(
        img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=5, global_pool="avg",
        class_token=False,
    )  # fmt: skip


def swin() -> nn.Module:
    return SwinTransformer(
        img_size=16, patch_size=2, window_size=4, embed_dim=8, depths=(2, 1), num_heads=(2, 2), num_classes=5
    )


CASES = [
    (vit, ["patch_embed.proj", *VIT_BLOCKS, "norm", "head", *POSITIONS]),
    (averaged, ["patch_embed.proj", *VIT_BLOCKS, "fc_norm", "head", *POSITIONS]),
    (swin, SWIN),
]


def nodes_of(model: nn.Module) -> list[str]:
    end = ".output_quantizer"
    return [name.removesuffix(end) for name, _ in model.named_modules() if name.endswith(end)]


@pytest.mark.parametrize(("build", "names"), CASES)
def test_the_nodes_are_those_before_roles_in_their_order(build: Callable[[], nn.Module], names: list[str]) -> None:
    assert nodes_of(psaq_vit.prepare(build(), Bits(4, 8), psaq_vit.Options())) == names


@pytest.mark.parametrize(("build", "names"), CASES)
def test_the_second_version_leaves_out_the_activation_alone(build: Callable[[], nn.Module], names: list[str]) -> None:
    left = [name for name in names if not name.endswith("mlp.act")]
    assert nodes_of(psaq_vit_v2.prepare(build(), Bits(4, 8), psaq_vit_v2.Options())) == left


def test_a_part_of_a_model_has_the_nodes_of_that_part() -> None:
    model = nn.ModuleDict({"backbone": swin(), "head": nn.Linear(5, 5)})
    psaq_vit.prepare(model["backbone"], Bits(4, 8), psaq_vit.Options())
    assert nodes_of(model) == [f"backbone.{name}" for name in SWIN]

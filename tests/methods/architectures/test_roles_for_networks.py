"""What roles say to who builds a network from them: windows, masks, biases, ends, and what no role says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer, window_partition
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitq.methods.architectures.roles import roles_of


def vit(**words: Any) -> VisionTransformer:
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, **words)


def swin(**words: Any) -> SwinTransformer:
    sizes = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
    return SwinTransformer(img_size=36, patch_size=2, **sizes | words)


def test_windows_are_split_as_the_library_splits_them_and_joined_again() -> None:
    maps = torch.randn(2, 18, 18, 16)
    plain, shifted = (block.attention.windows for block in roles_of(swin()).blocks[:2])
    assert plain is not None
    assert shifted is not None
    padded = nn.functional.pad(maps, (0, 0, 0, 2, 0, 2))
    assert torch.equal(plain.split(maps), window_partition(padded, (4, 4)).flatten(1, 2))
    assert not torch.equal(plain.split(maps), shifted.split(maps))
    for windows in (plain, shifted):
        assert torch.equal(windows.join(windows.split(maps), 18, 18), maps)


def test_an_attention_says_its_scale_its_bias_and_its_mask() -> None:
    model = swin()
    known = roles_of(model)
    for block, of_timm in zip(known.blocks, [b for stage in model.layers for b in stage.blocks], strict=True):
        attention = block.attention
        assert attention.scale == of_timm.attn.scale
        assert attention.table is not None
        assert attention.index is not None
        assert model.get_parameter(attention.table) is of_timm.attn.relative_position_bias_table
        assert model.get_buffer(attention.index) is of_timm.attn.relative_position_index
        assert attention.mask is not None
        assert attention.mask() is of_timm.attn_mask
    assert {block.attention.scale for block in roles_of(vit()).blocks} == {16**-0.5}


def test_a_merging_gathers_as_the_library_does_before_its_block() -> None:
    model, maps = swin(), torch.randn(2, 9, 9, 16)
    (merging,) = roles_of(model).mergings
    assert merging.before == "layers.1.blocks.0"
    ours = model.get_submodule(merging.reduction)(model.get_submodule(merging.norm)(merging.gather(maps)))
    assert torch.equal(ours, model.get_submodule(merging.path)(maps))


def test_ends_say_how_features_are_pooled() -> None:
    assert roles_of(vit()).ends.pooling == "class_token"
    assert roles_of(swin()).ends.pooling == "mean"
    assert roles_of(swin(global_pool="max")).ends.pooling == "max"
    assert roles_of(vit(global_pool="", num_classes=0)).ends.pooling is None
    averaged = roles_of(vit(global_pool="avg", class_token=False)).ends
    assert (averaged.pooling, averaged.after_pooling) == ("mean", ("fc_norm",))


def test_the_whole_and_its_layout() -> None:
    assert (roles_of(vit()).whole, roles_of(vit()).layout) == ("", "tokens")
    assert (roles_of(swin()).whole, roles_of(swin()).layout) == ("", "map")
    assert roles_of(nn.ModuleDict({"backbone": swin()})).whole == "backbone"
    assert roles_of(swin().layers).whole is None
    embedding = roles_of(vit()).embedding
    assert (embedding.class_token, embedding.positions) == ("cls_token", "pos_embed")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: vit(reg_tokens=1), "register tokens"),
        (lambda: vit(no_embed_class=True), "no position embedding, or one without the class token"),
        (lambda: vit(pre_norm=True), "a norm before the blocks"),
        (lambda: vit(init_values=0.1), "LayerScale at blocks.0"),
        (lambda: vit(qk_norm=True), "norms within attention at blocks.0"),
        (lambda: swin(dynamic_img_size=True), "a dynamic image size at layers.0.blocks.0"),
    ],
)
def test_what_no_role_says_is_named(model: Any, said: str) -> None:
    assert roles_of(model()).beside[0] == said
    assert roles_of(vit()).beside == roles_of(swin()).beside == ()

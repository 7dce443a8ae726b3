"""Roles of both families: every path is a module's, in the order of the forward pass; what lacks a role is told so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
import timm
import torch
from timm.layers.attention import Attention as TimmAttention
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitq.errors import UnsupportedError
from vitq.methods.architectures.explicit import Add, MatMul
from vitq.methods.architectures.roles import Attention, Block, Embedding, Ends, Merging, Mlp, Roles, roles_of

SMALL = {"img_size": 32, "num_classes": 10}
VIT = {**SMALL, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
SWIN = {**SMALL, "patch_size": 2, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
BUILD: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: VisionTransformer(**VIT),
    "vit_registers": lambda: VisionTransformer(**VIT, reg_tokens=2, no_embed_class=True),
    "vit_pooled": lambda: VisionTransformer(**VIT, class_token=False, global_pool="avg"),
    "vit_features": lambda: VisionTransformer(**{**VIT, "num_classes": 0}),
    "swin": lambda: SwinTransformer(**SWIN),
    "swin_padded": lambda: SwinTransformer(**{**SWIN, "img_size": 36}),
    "swin_features": lambda: SwinTransformer(**{**SWIN, "num_classes": 0}),
}
MODELS = pytest.mark.parametrize("name", BUILD)
PATHS: dict[type, tuple[str, ...]] = {
    Attention: ("path", "qkv", "qk", "logits", "softmax", "av", "proj", "bias", "bias_add"),
    Mlp: ("fc1", "act", "fc2"),
    Block: ("path", "stage", "norm1", "norm2", "sums"),
    Merging: ("path", "norm", "reduction", "before"),
    Embedding: ("projection", "norm", "tokens", "position", "position_add"),
    Ends: ("norms", "pool", "head"),
}
"""The fields of roles that are paths of modules, or tuples of them."""


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return BUILD[name]().eval()


def image(name: str) -> torch.Tensor:
    return torch.zeros(1, 3, *((36, 36) if name == "swin_padded" else (32, 32)))


def paths(role: Any) -> Iterator[str]:
    """Every path that a role, or a role in it, names."""
    for field in fields(role):
        value = getattr(role, field.name)
        if type(value) in PATHS:
            yield from paths(value)
        elif field.name in PATHS[type(role)] and value is not None:
            yield from (value,) if isinstance(value, str) else value


def all_paths(roles: Roles) -> list[str]:
    feeds = [path for feed in roles.norm_feeds for path in (feed.norm, feed.layer)]
    rows = (*roles.blocks, *roles.mergings, roles.embedding, roles.ends)
    return [*feeds, *(path for row in rows for path in paths(row))]


def order_of_running(roles: Roles, x: torch.Tensor) -> list[str]:
    """Paths in the order in which a forward pass first enters them."""
    seen: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, path=path: seen.append(path))
        for path, module in roles.model.named_modules()
    ]
    with torch.no_grad():
        roles.model(x)
    for hook in hooks:
        hook.remove()
    return list(dict.fromkeys(seen))


@MODELS
def test_every_role_is_a_module_of_the_kind_it_says(name: str) -> None:
    roles = roles_of(made(name))
    there = dict(roles.model.named_modules())
    assert set(all_paths(roles)) <= set(there)
    for block in roles.blocks:
        attention = block.attention
        for path in (attention.qkv, attention.proj, block.mlp.fc1, block.mlp.fc2):
            assert isinstance(there[path], nn.Linear)
        assert all(isinstance(there[path], MatMul) for path in (attention.qk, attention.av))
        assert all(isinstance(there[path], Add) for path in block.sums)
        assert isinstance(there[attention.softmax], nn.Softmax)
        assert there[attention.qkv].out_features % (3 * attention.heads) == 0
        assert isinstance(there[block.norm1], nn.LayerNorm)
        assert roles.module(block.norm2) is there[block.norm2]
        assert block.path.startswith(block.stage)
    assert isinstance(there[str(roles.embedding.projection)], nn.Conv2d)
    assert (roles.ends.head is None) == name.endswith("features")


@MODELS
def test_roles_are_in_the_order_of_the_forward_pass(name: str) -> None:
    roles = roles_of(made(name))
    ran = order_of_running(roles, image(name))
    at = {path: step for step, path in enumerate(ran)}
    norms = [at[feed.norm] for feed in roles.norm_feeds]
    assert norms == sorted(norms)
    assert len(set(norms)) == len(norms)
    assert all(at[feed.norm] < at[feed.layer] for feed in roles.norm_feeds)
    for block in roles.blocks:
        chain = (
            block.norm1, block.attention.qkv, block.attention.qk, block.attention.logits, block.attention.softmax,
            block.attention.av, block.attention.proj, block.sums[0], block.norm2, block.mlp.fc1, block.mlp.act,
            block.mlp.fc2, block.sums[1],
        )  # fmt: skip
        assert [at[path] for path in chain] == sorted(at[path] for path in chain)
    starts = [at[block.path] for block in roles.blocks]
    assert starts == sorted(starts)
    merged = [at[merging.path] for merging in roles.mergings]
    assert merged == sorted(merged)


@MODELS
def test_every_norm_that_feeds_one_layer_is_named_and_no_other(name: str) -> None:
    """A norm's output reaches its layer alone: every LayerNorm but those of the ends and of the embedding."""
    roles = roles_of(made(name))
    feeds = [feed.norm for feed in roles.norm_feeds]
    others = {*roles.ends.norms, roles.embedding.norm}
    norms = [path for path, module in roles.model.named_modules() if isinstance(module, nn.LayerNorm)]
    assert sorted(feeds) == sorted(set(norms) - others)
    padded = [feed.norm for feed in roles.norm_feeds if feed.moved is not None]
    assert padded == ([block.norm1 for block in roles.blocks] if roles.windowed else [])


def test_what_zero_became_is_what_a_windowed_block_pads_with() -> None:
    roles = roles_of(made("swin_padded"))
    with torch.no_grad():
        before = roles.model(image("swin_padded") + 1)
        for feed in roles.norm_feeds:
            if feed.moved is not None:
                feed.moved(torch.full((roles.module(feed.layer).in_features,), 9.0))  # type: ignore[arg-type]
        assert not torch.equal(roles.model(image("swin_padded") + 1), before)


def test_class_tokens_windows_and_stages_are_those_of_the_model() -> None:
    told = {name: roles_of(made(name)) for name in BUILD}
    assert {name: roles.class_tokens for name, roles in told.items()} == {
        "vit": 1, "vit_registers": 3, "vit_pooled": 0, "vit_features": 1, "swin": 0, "swin_padded": 0,
        "swin_features": 0,
    }  # fmt: skip
    assert [name for name, roles in told.items() if roles.has_class_token] == ["vit", "vit_registers", "vit_features"]
    assert [name for name, roles in told.items() if roles.windowed] == ["swin", "swin_padded", "swin_features"]
    for name, roles in told.items():
        stages = [block.stage for block in roles.blocks]
        assert len(dict.fromkeys(stages)) == (2 if "swin" in name else 1)
        assert len(roles.mergings) == (1 if "swin" in name else 0)
        assert [a.class_tokens for a in roles.attentions] == [roles.class_tokens] * len(roles.blocks)


@pytest.mark.parametrize(("side", "padding"), [(32, 0), (36, 2)])
def test_a_layout_names_every_place_of_the_feature_map_once_and_its_padding(side: int, padding: int) -> None:
    roles = roles_of(made("swin" if side == 32 else "swin_padded"))
    map_side = side // 2
    layout = roles.attentions[1].layout
    assert layout is not None
    tokens = layout()
    assert len(tokens) == (map_side + padding) ** 2
    assert sorted(tokens[tokens >= 0].tolist()) == list(range(map_side**2))


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_a_part_is_asked_about_by_itself(name: str) -> None:
    """The roles of a backbone in a detector are those of the backbone alone, its paths relative to it."""
    alone, inside = roles_of(made(name)), nn.ModuleDict({"backbone": made(name), "head": nn.Linear(2, 2)})
    whole = roles_of(inside)
    assert all_paths(roles_of(inside.get_submodule("backbone"))) == all_paths(alone)
    assert all_paths(whole) == [f"backbone.{path}" for path in all_paths(alone)]
    block = alone.module(alone.blocks[0].path)
    assert roles_of(block).blocks[0].attention.qkv == "attn.qkv"
    assert roles_of(block).embedding == Embedding()


def test_asking_twice_gives_the_same_paths() -> None:
    model = made("swin")
    assert all_paths(roles_of(model)) == all_paths(roles_of(model))


class Unknown(nn.Module):
    """A transformer of no family: its block is none that timm has."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mlp = nn.MultiheadAttention(8, 2), nn.Linear(8, 8)


@pytest.mark.parametrize(
    "build", [Unknown, lambda: nn.Linear(2, 2), lambda: timm.create_model("mixer_s32_224", num_classes=2)]
)
def test_an_unknown_family_is_told_which_roles_are_missing(build: Callable[[], nn.Module]) -> None:
    model = build()
    with pytest.raises(UnsupportedError) as told:
        roles_of(model)
    message = str(told.value)
    assert "\n" not in message
    assert message.startswith(f"{type(model).__name__} has no block")
    for role in ("attention (qkv, softmax, proj)", "MLP (fc1, act, fc2)", "norms", "residual sums", "are missing"):
        assert role in message


class OtherAttention(TimmAttention):
    """A subclass computes what its author wanted, which the explicit form of its parent would not."""


class OtherBlock(TimmBlock):
    """As `OtherAttention`, of a block."""


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "attn": (nn.Identity, r"attention \(qkv, softmax, proj\)"),
    "attn of a subclass": (lambda: OtherAttention(32, 2), r"attention \(qkv, softmax, proj\)"),
    "mlp": (nn.Identity, "MLP fc1, MLP act, MLP fc2"),
}


@pytest.mark.parametrize("which", OTHERS)
def test_a_known_block_with_something_else_inside_is_told_which_roles_it_lacks(which: str) -> None:
    model, (build, missing) = made("vit"), OTHERS[which]
    setattr(model.get_submodule("blocks.1"), which.split()[0], build())
    with pytest.raises(UnsupportedError, match=rf"block blocks\.1 has no module for the roles {missing}:") as told:
        roles_of(model)
    assert "\n" not in str(told.value)


def test_a_block_of_a_subclass_is_told_that_its_sums_are_not_known() -> None:
    model = VisionTransformer(**VIT, block_fn=OtherBlock)
    with pytest.raises(UnsupportedError, match=r"block blocks\.0 has no module for the roles residual sums:"):
        roles_of(model)

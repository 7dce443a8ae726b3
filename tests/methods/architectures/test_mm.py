"""mmdet's and mmsegmentation's backbones: the explicit form is the library's function, and roles name its modules."""

from __future__ import annotations

import copy
from typing import Any

import dense_subjects as dense
import pytest
import torch
from torch import nn

from vitq.methods.architectures.explicit import make_explicit
from vitq.methods.architectures.roles import roles_of
from vitq.subject import part_of

MODELS = pytest.mark.parametrize("name", dense.MODELS)
IMAGES = [dense.padded(dense.scenes(seed, n)) for seed, n in ((9, 2), (7, 1), (8, 1))]
"""Of 64x64, 40x52 and 37x64: maps that windows of 4 fill, and maps that they do not."""


def backbone(name: str) -> Any:
    return part_of(dense.make(name), "backbone")


@MODELS
def test_the_explicit_form_is_the_librarys_function_at_every_size(name: str) -> None:
    library, explicit = backbone(name), make_explicit(backbone(name))
    assert make_explicit(explicit) is explicit
    for images in IMAGES:
        with torch.no_grad():
            for got, want in zip(explicit(images), library(images), strict=True):
                torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@MODELS
def test_a_librarys_state_fills_the_explicit_form(name: str) -> None:
    library, explicit = backbone(name), make_explicit(part_of(dense.make(name, seed=1), "backbone"))
    explicit.load_state_dict(library.state_dict())
    with torch.no_grad():
        for got, want in zip(explicit(IMAGES[1]), library(IMAGES[1]), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@MODELS
def test_roles_name_every_layer_of_the_backbone(name: str) -> None:
    roles = roles_of(backbone(name))
    named = {roles.embedding.projection, *(merging.reduction for merging in roles.mergings)}
    for block in roles.blocks:
        named |= {block.attention.qkv, block.attention.proj, block.mlp.fc1, block.mlp.fc2}
    layers = {path for path, m in roles.model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    assert named == layers
    norms = {path for path, m in roles.model.named_modules() if isinstance(m, nn.LayerNorm)}
    known = {feed.norm for feed in roles.norm_feeds} | {level.norm for level in roles.levels} | {roles.embedding.norm}
    known |= {merging.norm for merging in roles.mergings}
    assert known - {None} == norms
    assert not roles.beside
    assert (roles.whole, roles.layout) == ("", "tokens" if name == "vit_segmenter" else "map")
    assert len(roles.levels) == 2


@MODELS
def test_a_whole_model_has_the_roles_of_its_backbone(name: str) -> None:
    inner, whole = roles_of(backbone(name)), roles_of(dense.make(name))
    assert whole.whole == "backbone"
    assert [block.path for block in whole.blocks] == [f"backbone.{block.path}" for block in inner.blocks]
    assert [level.after for level in whole.levels] == [f"backbone.{level.after}" for level in inner.levels]


@pytest.mark.parametrize("size", [(16, 16), (10, 13), (3, 4)])
def test_windows_are_joined_again_and_tell_where_a_token_lies(size: tuple[int, int]) -> None:
    part = backbone("detector")
    shifted = roles_of(part).blocks[1].attention
    windows, maps = shifted.windows, torch.randn(2, *size, 3)
    assert windows is not None
    assert windows.masked
    assert torch.equal(windows.join(windows.split(maps), *size), maps)
    part.get_submodule("stages.0.blocks.1")(torch.randn(2, size[0] * size[1], 16), size)
    assert shifted.layout is not None
    layout = shifted.layout()
    inside = windows.split(maps).reshape(2, -1, 3)[:, layout >= 0]
    assert torch.equal(inside, maps.flatten(1, 2)[:, layout[layout >= 0]])


@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_merging_gathers_as_unfold_does(size: tuple[int, int]) -> None:
    part = backbone("detector")
    (merging,) = roles_of(part).mergings
    layer, maps = part.get_submodule(merging.path), torch.randn(2, *size, 16)
    gathered = layer.reduction(layer.norm(merging.gather(maps)))
    with torch.no_grad():
        want, found = layer(maps.flatten(1, 2), size)
    torch.testing.assert_close(gathered.flatten(1, 2), want)
    assert gathered.shape[1:3] == found
    assert merging.gather(maps.to(torch.int8)).dtype is torch.int8


def test_a_pad_value_stands_for_a_norm_that_was_rewritten() -> None:
    """norm1 shifted and the layer after it shifted back: with the pad value the function stays, without it not."""
    part = make_explicit(backbone("detector"))
    with torch.no_grad():
        want = part(IMAGES[1])
        moved = copy.deepcopy(part)
        for feed in [feed for feed in roles_of(moved).norm_feeds if feed.moved is not None]:
            norm, layer = (moved.get_submodule(path) for path in (feed.norm, feed.layer))
            shift = torch.linspace(-1, 1, len(norm.bias))  # type: ignore[arg-type]
            norm.bias += shift  # type: ignore[operator]
            layer.bias -= layer.weight @ shift  # type: ignore[operator]
        without = moved(IMAGES[1])
        for feed in [feed for feed in roles_of(moved).norm_feeds if feed.moved is not None]:
            assert feed.moved is not None
            feed.moved(torch.linspace(-1, 1, len(moved.get_submodule(feed.norm).bias)))  # type: ignore[arg-type]
        got = moved(IMAGES[1])
    assert all(torch.allclose(g, w, atol=1e-4) for g, w in zip(got, want, strict=True))
    assert not any(torch.allclose(g, w, atol=1e-4) for g, w in zip(without, want, strict=True))
    filled = make_explicit(part_of(dense.make("detector", seed=1), "backbone"))
    filled.load_state_dict(moved.state_dict())
    with torch.no_grad():
        assert all(torch.equal(g, w) for g, w in zip(filled(IMAGES[1]), got, strict=True))

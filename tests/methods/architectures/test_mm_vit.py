"""The explicit ViT of mmsegmentation computes what the library's own does, at any size; weights and roles."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitq import mm
from vitq.datasets.scenes import Scene
from vitq.methods.architectures.explicit import MatMul, make_explicit
from vitq.methods.architectures.roles import roles_of
from vitq.tasks.mm_inputs import stacked
from vitq.tasks.mm_models import build
from vitq.tasks.names import Configured

pytestmark = pytest.mark.skipif(mm.why_absent() is not None, reason=str(mm.why_absent()))

SMALL = {"img_size": 64, "patch_size": 8, "embed_dims": 16, "num_layers": 3, "num_heads": 2, "mlp_ratio": 2}
SMALL |= {"out_indices": (0, 2)}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no_qkv_bias": {"qkv_bias": False},
    "patch_norm": {"patch_norm": True},
    "final_norm": {"final_norm": True},
    "pre_norm": {"pre_norm": True},
    "no_class_token": {"with_cls_token": False},
    "class_token_out": {"output_cls_token": True, "out_origin": True},
    "stochastic_depth": {"drop_path_rate": 0.5},
    "bilinear": {"interpolate_mode": "bilinear", "out_indices": -1},
}
SIZES = {"own": (64, 64), "larger": (80, 96), "padded": (61, 75), "smaller": (32, 24), "as many": (32, 128)}
CONFIGS = {
    "deit_small": ("mmseg::vit/vit_deit-s16_upernet_8xb2-160k_ade20k-512x512.py", (96, 144)),
    "deit_small_mln": ("mmseg::vit/vit_deit-s16_mln_upernet_8xb2-160k_ade20k-512x512.py", (96, 144)),
    "deit_small_ln_mln": ("mmseg::vit/vit_deit-s16-ln_mln_upernet_8xb2-160k_ade20k-512x512.py", (96, 144)),
    "digits": ("vitq::digits_upernet_vit.py", (128, 128)),
}


def vit(seed: int = 0, **words: Any) -> nn.Module:
    """A small ViT with every parameter random, so that nothing is left out by being zero."""
    mm.prepare()
    from mmseg.models.backbones.vit import VisionTransformer

    return randomized(VisionTransformer(**{**SMALL, **words}), seed)


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every vector and table drawn anew, and matrices large enough that attention differs between tokens."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            norm = any(word in name for word in ("norm", "ln")) and name.endswith("weight")
            parameter.data = drawn * 0.3 + (1.0 if norm else 0.0)
        else:
            parameter.data = drawn if name.endswith(("pos_embed", "cls_token")) else drawn / parameter[0].numel() ** 0.5
    model.eval()  # mm's own `train` and `eval` return nothing
    return model


def images(height: int, width: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def flat(levels: Any) -> list[Tensor]:
    """All tensors of a tuple of maps, or of pairs of a map and a class token."""
    return [levels] if isinstance(levels, Tensor) else [tensor for level in levels for tensor in flat(level)]


def same(model: nn.Module, x: Tensor, tolerance: float = 1e-5) -> nn.Module:
    """The explicit form of a copy, once all of its outputs have been found to be the model's own."""
    explicit = make_explicit(copy.deepcopy(model))
    with torch.no_grad():
        got, expected = flat(explicit(x)), flat(model(x))
    assert len(got) == len(expected) > 0
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
    return explicit


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_function_stays_what_it_was(variant: str, size: str) -> None:
    explicit = same(vit(**VARIANTS[variant]), images(*SIZES[size]))
    known = roles_of(explicit)
    assert known.family == "mm_vit"
    assert sum(isinstance(m, MatMul) for m in explicit.modules()) == 2 * len(known.attentions) == 6


def test_images_of_several_sizes_in_one_batch() -> None:
    sizes = [(40, 52), (61, 33), (64, 96)]
    same(vit(), stacked([Scene(images(*size, n=1)[0], str(size), i, size) for i, size in enumerate(sizes)], 1))


@pytest.mark.parametrize("name", CONFIGS)
def test_backbones_of_shipped_configurations(name: str) -> None:
    config, size = CONFIGS[name]
    backbone: Any = randomized(build(Configured(config=config), "segmentation").backbone)
    known = roles_of(same(backbone, images(*size, n=1), tolerance=2e-5))
    assert len(known.blocks) == len(backbone.layers)
    assert [level.after for level in known.levels] == [f"layers.{i}" for i in backbone.out_indices]
    assert [level.norm for level in known.levels if level.norm] == (["ln1"] if backbone.final_norm else [])


def test_gradients_are_the_same_under_other_names() -> None:
    model, x = vit(), images(*SIZES["larger"])
    explicit = make_explicit(copy.deepcopy(model))
    for each in (model, explicit):
        sum(level.square().mean() for level in each(x)).backward()
    theirs = dict(model.named_parameters())
    assert len(list(explicit.parameters())) == len(theirs)
    for name, parameter in explicit.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, theirs[original(name)].grad, rtol=1e-4, atol=1e-5)
        assert parameter.grad.abs().max() > 0, name


def original(name: str) -> str:
    """The library's name of a parameter of the explicit form."""
    renamed = name.replace("attn.qkv.", "attn.attn.in_proj_")
    return renamed.replace("attn.proj.", "attn.attn.out_proj.")


def test_training_draws_the_same_stochastic_depth() -> None:
    model, x = vit(drop_path_rate=0.5), images(*SIZES["own"], n=4)
    model.train()
    explicit, found = make_explicit(copy.deepcopy(model)), []
    for each in (model, explicit):
        torch.manual_seed(3)
        found.append(each(x))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["plain", "no_qkv_bias", "final_norm"])
def test_weights_load_by_either_name(variant: str) -> None:
    model, x = vit(**VARIANTS[variant]), images(*SIZES["own"])
    by_theirs, by_ours = (make_explicit(vit(seed=seed, **VARIANTS[variant])) for seed in (1, 2))
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    by_theirs.load_state_dict(model.state_dict())
    by_ours.load_state_dict(by_theirs.state_dict())
    assert {original(name) for name in by_ours.state_dict()} == kept.keys()
    assert all(torch.equal(tensor, kept[original(name)]) for name, tensor in by_ours.state_dict().items())
    with torch.no_grad():
        for ours, second, theirs in zip(by_theirs(x), by_ours(x), model(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
            assert torch.equal(ours, second)


def test_weights_that_are_missing_or_of_another_shape_are_refused() -> None:
    state = vit().state_dict()
    del state["layers.1.attn.attn.in_proj_weight"]
    with pytest.raises(RuntimeError, match=r"layers\.1\.attn\.qkv\.weight"):
        make_explicit(vit()).load_state_dict(state)
    with pytest.raises(RuntimeError, match="size mismatch"):
        make_explicit(vit()).load_state_dict(vit(embed_dims=32).state_dict())


def test_twice_is_once() -> None:
    model = make_explicit(vit())
    before = [(name, type(module)) for name, module in model.named_modules()]
    assert [(name, type(module)) for name, module in make_explicit(model).named_modules()] == before


def test_roles_name_every_layer_once_and_its_ends() -> None:
    known = roles_of(nn.ModuleDict({"backbone": vit(patch_norm=True, final_norm=True)}))
    named = [p for b in known.blocks for p in (b.attention.qkv, b.attention.proj, b.mlp.fc1, b.mlp.fc2)]
    layers = [n for n, m in known.model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert sorted([*named, str(known.embedding.projection)]) == sorted(layers)
    assert (known.whole, known.layout, known.class_tokens, known.has_class_token) == ("backbone", "tokens", 1, True)
    assert [(level.after, level.norm) for level in known.levels] == [
        ("backbone.layers.0", None), ("backbone.layers.2", "backbone.ln1"),
    ]  # fmt: skip
    at = known.embedding
    assert (at.norm, at.tokens, at.position_add) == (
        "backbone.patch_embed.norm", "backbone.tokens", "backbone.position_add",
    )  # fmt: skip
    assert (at.class_token, at.positions) == ("backbone.cls_token", "backbone.pos_embed")
    assert {(a.heads, a.scale, a.class_tokens, a.windowed) for a in known.attentions} == {(2, 8**-0.5, 1, False)}


def test_positions_of_another_size_are_what_joins() -> None:
    model: Any = vit()
    known, seen = roles_of(model), []
    known.module(str(known.embedding.position)).register_forward_hook(lambda *a: seen.append(a[2]))
    assert known.embedding.resize is not None
    with torch.no_grad():
        for height, width in SIZES.values():
            model(images(height, width, n=1))
            made = known.embedding.resize(model.pos_embed, -(-height // 8), -(-width // 8))
            assert torch.equal(seen[-1], made)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"with_cls_token": False}, "a class token that leaves before the blocks"),
        ({"pre_norm": True}, "a norm before the blocks"),
        ({"output_cls_token": True}, "an output of the class token, or of the embedding"),
    ],
)
def test_what_no_role_says_is_named(words: dict[str, Any], said: str) -> None:
    assert roles_of(vit(**words)).beside == (said,)
    assert roles_of(vit()).beside == ()


@pytest.mark.parametrize("size", ["own", "larger"])
def test_a_norm_rewritten_with_its_layer_leaves_the_function(size: str) -> None:
    model, x = vit().double(), images(*SIZES[size]).double()
    changed = make_explicit(copy.deepcopy(model))
    known: Any = roles_of(changed)
    for feed in known.norm_feeds:
        norm, layer = known.module(feed.norm), known.module(feed.layer)
        shift, ratio = torch.randn_like(norm.weight), torch.rand_like(norm.weight) + 0.5
        layer.bias.data -= layer.weight.data @ shift
        layer.weight.data *= ratio
        norm.weight.data, norm.bias.data = norm.weight.data / ratio, (norm.bias.data + shift) / ratio
    assert len(known.norm_feeds) == 6
    with torch.no_grad():
        for ours, theirs in zip(changed(x), model(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)

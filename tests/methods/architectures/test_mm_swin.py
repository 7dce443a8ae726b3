"""Explicit Swins of mmdet and mmsegmentation compute what the libraries' own do, at any size; and what roles say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitq import mm
from vitq.datasets.scenes import Scene
from vitq.errors import UnsupportedError
from vitq.methods.architectures.explicit import MatMul, make_explicit
from vitq.methods.architectures.roles import roles_of
from vitq.methods.bits import Bits
from vitq.methods.registry import METHODS, load
from vitq.tasks.mm_inputs import stacked
from vitq.tasks.mm_models import build
from vitq.tasks.names import Configured

pytestmark = pytest.mark.skipif(mm.why_absent() is not None, reason=str(mm.why_absent()))

LIBRARIES = ("mmdet", "mmseg")
SMALL = {"embed_dims": 16, "depths": [2, 2], "num_heads": [2, 4], "strides": (4, 2), "out_indices": (0, 1)}
SMALL |= {"window_size": 4, "mlp_ratio": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no_qkv_bias": {"qkv_bias": False},
    "no_patch_norm": {"patch_norm": False},
    "scaled": {"qk_scale": 0.3},
    "last_level_alone": {"out_indices": (1,)},
    "stochastic_depth": {"drop_path_rate": 0.5},
    "three_stages": {"depths": [1, 2, 3], "num_heads": [1, 2, 4], "strides": (4, 2, 2), "out_indices": (0, 2)},
}
SIZES = {"whole windows": (64, 64), "padded": (60, 84), "odd merging": (52, 76), "no whole patch": (37, 50)}
SIZES |= {"one window": (16, 16), "less than a window": (12, 20)}
REAL = {
    "mask_rcnn": ("detection", "mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py", (250, 330)),
    "upernet": ("segmentation", "mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
                (130, 250)),
    "digits_mask_rcnn": ("detection", "vitq::digits_mask_rcnn.py", (128, 104)),
    "digits_upernet": ("segmentation", "vitq::digits_upernet_swin.py", (128, 128)),
}  # fmt: skip


def swin(library: str, seed: int = 0, **words: Any) -> nn.Module:
    """A small Swin of a library with random weights, biases and tables, so that nothing is left out by being zero."""
    mm.prepare()
    if library == "mmdet":
        from mmdet.models.backbones.swin import SwinTransformer
    else:
        from mmseg.models.backbones.swin import SwinTransformer
    return randomized(SwinTransformer(**{**SMALL, **words}), seed)


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every vector and table drawn anew, and matrices large enough that attention differs between tokens."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter.data = drawn * 0.3 + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        elif name.endswith(("table", "pos_embed", "cls_token")):
            parameter.data = drawn
        else:
            parameter.data = drawn / parameter[0].numel() ** 0.5
    model.eval()  # mm's own `train` and `eval` return nothing
    return model


def images(height: int, width: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def same(model: nn.Module, x: Tensor, tolerance: float = 1e-5) -> nn.Module:
    """The explicit form of a copy, once all of its outputs have been found to be the model's own."""
    explicit = make_explicit(copy.deepcopy(model))
    with torch.no_grad():
        got, expected = explicit(x), model(x)
    assert len(got) == len(expected) > 0
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
    return explicit


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_function_stays_what_it_was(library: str, variant: str, size: str) -> None:
    model = swin(library, **VARIANTS[variant])
    explicit = same(model, images(*SIZES[size]))
    assert list(explicit.state_dict()) == list(model.state_dict())
    known = roles_of(explicit)
    assert sum(isinstance(m, MatMul) for m in explicit.modules()) == 2 * len(known.attentions) > 0
    assert known.family == "mm_swin"


@pytest.mark.parametrize("library", LIBRARIES)
def test_absolute_positions_join_at_the_size_that_the_library_takes_them_for(library: str) -> None:
    model = swin(library, use_abs_pos_embed=True, pretrain_img_size=64)
    same(model, images(*SIZES["whole windows"]))
    with pytest.raises(RuntimeError, match="must match the size"):
        model(images(*SIZES["padded"]))


@pytest.mark.parametrize("library", LIBRARIES)
def test_one_model_takes_images_of_many_sizes_one_after_the_other(library: str) -> None:
    model = swin(library)
    explicit = make_explicit(copy.deepcopy(model))
    with torch.no_grad():
        for size in [*SIZES.values(), *reversed(SIZES.values())]:
            for ours, theirs in zip(explicit(images(*size, n=1)), model(images(*size, n=1)), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_images_of_several_sizes_in_one_batch(library: str) -> None:
    sizes = [(40, 52), (61, 33), (64, 64)]
    batch = [Scene(images(*size, n=1)[0], str(size), i, size) for i, size in enumerate(sizes)]
    x = stacked(batch, 12)
    assert x.shape == (3, 3, 72, 72)
    same(swin(library), x)


@pytest.mark.parametrize("name", REAL)
def test_backbones_of_shipped_configurations(name: str) -> None:
    task, config, size = REAL[name]
    torch.manual_seed(0)
    backbone: Any = randomized(build(Configured(config=config), task).backbone)
    explicit = same(backbone, images(*size, n=1), tolerance=2e-5)
    known = roles_of(explicit)
    assert len(known.blocks) == sum(len(stage.blocks) for stage in backbone.stages)
    assert [level.norm for level in known.levels] == [f"norm{i}" for i in backbone.out_indices]


@pytest.mark.parametrize("library", LIBRARIES)
def test_gradients_are_the_same(library: str) -> None:
    model, x = swin(library), images(*SIZES["padded"])
    explicit = make_explicit(copy.deepcopy(model))
    for each in (model, explicit):
        sum(level.square().mean() for level in each(x)).backward()
    theirs = dict(model.named_parameters())
    for name, parameter in explicit.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-5)
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("library", LIBRARIES)
def test_training_draws_the_same_stochastic_depth(library: str) -> None:
    model = swin(library, drop_path_rate=0.5)
    model.train()
    explicit, x = make_explicit(copy.deepcopy(model)), images(*SIZES["padded"], n=4)
    found = []
    for each in (model, explicit):
        torch.manual_seed(3)
        found.append(each(x))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_weights_go_back_and_forth_between_the_forms(library: str) -> None:
    model, x = swin(library), images(*SIZES["padded"])
    explicit, again = make_explicit(swin(library, seed=1)), swin(library, seed=2)
    explicit.load_state_dict(model.state_dict())
    again.load_state_dict(explicit.state_dict())
    with torch.no_grad():
        for ours, theirs, third in zip(explicit(x), model(x), again(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
            assert torch.equal(theirs, third)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("size", ["padded", "whole windows", "no whole patch"])
def test_windows_masks_and_layouts_are_what_the_library_computes(library: str, size: str) -> None:
    """Seen from outside: what the library gives its window attention, and the mask that it hands over."""
    model = swin(library)
    given: list[tuple[Tensor, Tensor, Tensor | None]] = []
    for stage in model.stages:  # type: ignore[union-attr]
        for block in stage.blocks:  # type: ignore[union-attr]
            _watch(block.attn, given)
    with torch.no_grad():
        model(images(*SIZES[size]))
    explicit = make_explicit(copy.deepcopy(swin(library)))
    known = roles_of(explicit)
    with torch.no_grad():
        explicit(images(*SIZES[size]))
    assert len(given) == len(known.attentions) == 4
    for attention, (maps, windows, mask) in zip(known.attentions, given, strict=True):
        assert attention.windows is not None
        assert attention.layout is not None
        assert attention.mask is not None
        assert torch.equal(attention.windows.split(maps), windows)
        assert torch.equal(attention.windows.join(windows, *maps.shape[1:3]), maps)
        _laid_out(attention.layout(), maps, windows)
        said = attention.mask()
        assert (said is None) == (mask is None)
        assert said is None or mask is None or torch.equal(said, mask)


def _watch(shifted: Any, given: list[tuple[Tensor, Tensor, Tensor | None]]) -> None:
    shifted.register_forward_pre_hook(lambda _, a: given.append((a[0].view(a[0].shape[0], *a[1], -1),) * 3))
    shifted.w_msa.register_forward_pre_hook(
        lambda _, args, words: given.append((given.pop()[0], args[0], words["mask"])), with_kwargs=True
    )


def _laid_out(layout: Tensor, maps: Tensor, windows: Tensor) -> None:
    b, h, w, c = maps.shape
    tokens = torch.cat([maps.view(b, h * w, c), torch.zeros(b, 1, c)], dim=1)
    assert layout.unique().tolist() == sorted({*layout.tolist()} | {*range(h * w)})
    assert torch.equal(tokens[:, layout].reshape(windows.shape), windows)


def test_windows_are_unknown_before_an_image_has_been_seen() -> None:
    attention = roles_of(swin("mmdet")).attentions[1]
    assert attention.layout is not None
    with pytest.raises(UnsupportedError, match="run a forward pass first"):
        attention.layout()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_merging_gathers_as_the_library_does_before_its_block(library: str) -> None:
    model: Any = swin(library, **VARIANTS["three_stages"])
    known = roles_of(model)
    assert [m.before for m in known.mergings] == ["stages.1.blocks.0", "stages.2.blocks.0"]
    for merging, width, (h, w) in zip(known.mergings, (16, 32), ((9, 13), (6, 5)), strict=True):
        maps = torch.randn(2, h, w, width)
        ours = known.module(merging.reduction)(known.module(merging.norm)(merging.gather(maps)))
        theirs, _ = known.module(merging.path)(maps.view(2, h * w, width), (h, w))
        torch.testing.assert_close(ours.flatten(1, 2), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_roles_name_every_layer_once_and_its_ends(library: str) -> None:
    model: Any = swin(library)
    known = roles_of(nn.ModuleDict({"backbone": model}))
    named = [p for b in known.blocks for p in (b.attention.qkv, b.attention.proj, b.mlp.fc1, b.mlp.fc2)]
    named += [m.reduction for m in known.mergings] + [str(known.embedding.projection)]
    layers = [n for n, m in known.model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert sorted(named) == sorted(layers)
    assert (known.whole, known.layout, known.beside, known.class_tokens) == ("backbone", "map", (), 0)
    assert known.embedding.norm == "backbone.patch_embed.norm"
    assert [(level.after, level.norm) for level in known.levels] == [
        ("backbone.stages.0.blocks.1", "backbone.norm0"), ("backbone.stages.1.blocks.1", "backbone.norm1"),
    ]  # fmt: skip
    assert roles_of(swin(library, patch_norm=False)).embedding.norm is None
    assert roles_of(swin(library, use_abs_pos_embed=True)).beside == ("absolute positions at absolute_pos_embed",)
    for block, theirs in zip(known.blocks, [b for s in model.stages for b in s.blocks], strict=True):
        assert block.attention.table is not None
        assert known.model.get_parameter(block.attention.table) is theirs.attn.w_msa.relative_position_bias_table
        assert (block.attention.heads, block.attention.scale) == (theirs.attn.w_msa.num_heads, theirs.attn.w_msa.scale)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("size", ["padded", "whole windows", "no whole patch", "less than a window"])
def test_a_norm_rewritten_with_its_layer_leaves_the_function(library: str, size: str) -> None:
    """X -> (X + s) / r after each norm, undone in the layer that it feeds: padding has to move along."""
    model, x = swin(library).double(), images(*SIZES[size]).double()
    changed = make_explicit(copy.deepcopy(model))
    known, generator = roles_of(changed), torch.Generator().manual_seed(0)
    for feed in known.norm_feeds:
        norm, layer = known.module(feed.norm), known.module(feed.layer)
        _move(norm, layer, feed.moved, generator)
    assert len(known.norm_feeds) == 2 * 4 + 1
    with torch.no_grad():
        for ours, theirs in zip(changed(x), model(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def _move(norm: Any, layer: Any, moved: Any, generator: torch.Generator) -> None:
    shift = torch.randn(norm.weight.shape, generator=generator, dtype=torch.float64)
    ratio = torch.rand(norm.weight.shape, generator=generator, dtype=torch.float64) + 0.5
    bias = torch.zeros(layer.out_features, dtype=torch.float64) if layer.bias is None else layer.bias.data
    layer.bias = nn.Parameter(bias - layer.weight.data @ shift)
    layer.weight.data = layer.weight.data * ratio
    norm.weight.data, norm.bias.data = norm.weight.data / ratio, (norm.bias.data + shift) / ratio
    if moved is not None:
        moved(shift / ratio)


def test_both_libraries_in_one_model() -> None:
    both = nn.ModuleDict({"one": swin("mmdet"), "other": swin("mmseg")})
    known = roles_of(copy.deepcopy(both))
    assert {block.path.partition(".")[0] for block in known.blocks} == {"one", "other"}
    for name in both:
        same(both[name], images(*SIZES["padded"]))


def test_layers_of_mmcv_become_torch_s_own_wherever_they_stand() -> None:
    """Methods ask for `nn.Linear` and `nn.Conv2d`; mmcv's subclasses compute the same, empty input included."""
    model: Any = build(Configured(config="vitq::digits_mask_rcnn.py"), "detection")
    explicit: Any = make_explicit(copy.deepcopy(model))
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    assert {type(m) for m in explicit.modules() if isinstance(m, kinds)} == set(kinds)
    assert {type(m) for m in model.modules() if isinstance(m, kinds)} > set(kinds) - {nn.ConvTranspose2d}
    width = model.roi_head.mask_head.in_channels
    with torch.no_grad():
        for pooled in (torch.randn(3, width, 14, 14), torch.empty(0, width, 14, 14)):
            ours, theirs = explicit.roi_head.mask_head(pooled), model.roi_head.mask_head(pooled)
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["psaq_vit", "minmax", "repq_vit", "binary_vit"])
def test_methods_quantize_the_layers_of_the_mlp(name: str) -> None:
    method = load(name)
    bits = Bits(w=1, a=1) if name == "binary_vit" else Bits(w=4, a=4)
    part = swin("mmdet")
    method.prepare(part, bits, METHODS.load(name, "options").Options())
    for path in ("ffn.layers.0.0", "ffn.layers.1", "attn.w_msa.qkv"):
        layer: Any = part.get_submodule(f"stages.0.blocks.0.{path}")
        assert max(layer.operand_bits()) <= 8, path

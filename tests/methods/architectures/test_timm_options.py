"""What timm's VisionTransformer may be built with: served with timm's own numbers, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from subjects import subject_of
from timm.layers import GluMlp
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from vitq.errors import UnsupportedError
from vitq.methods import registry
from vitq.methods.architectures.explicit import make_explicit
from vitq.methods.architectures.roles import roles_of
from vitq.methods.bits import Bits
from vitq.methods.psaq_vit.nodes import NodeLinear, NodeMatMul, node_paths
from vitq.methods.psaq_vit.patch_similarity import PatchEntropy
from vitq.methods.served import serves
from vitq.methods.toolkit import saving

VIT: dict[str, Any] = {
    "img_size": 32, "num_classes": 10, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "registers": {"reg_tokens": 2},
    "registers and positions of patches alone": {"reg_tokens": 2, "no_embed_class": True},
    "no qkv bias": {"qkv_bias": False},
    "no bias": {"qkv_bias": False, "proj_bias": False},
    "LayerScale": {"init_values": 0.5},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "no class token, one norm": {"class_token": False, "global_pool": "avg", "fc_norm": False, "reg_tokens": 2},
    "fc_norm": {"global_pool": "avg", "fc_norm": True},
    "norm before the blocks": {"pre_norm": True},
    "norms of queries and keys": {"qk_norm": True},
    "norm before the projection": {"scale_attn_norm": True},
    "norm within the MLP": {"scale_mlp_norm": True},
    "no positions": {"pos_embed": "none"},
    "images of any size": {"dynamic_img_size": True},
    "no final norm": {"final_norm": False},
    "positions of patches alone": {"no_embed_class": True},
    "gated MLP": {"mlp_layer": GluMlp},
}
PTQ = ("minmax", "repq_vit", "pmq", "psaq_vit", "psaq_vit_v2")


def made(options: dict[str, Any], kind: Callable[..., nn.Module] = VisionTransformer) -> nn.Module:
    torch.manual_seed(0)
    model = kind(**{**VIT, **options}).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("token", "pos_embed", "bias")):
                parameter.normal_(std=0.5)
    return model


def images(n: int = 2, side: int = 32) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", OPTIONS)
def test_the_explicit_form_gives_timms_logits(name: str) -> None:
    model = made(OPTIONS[name])
    with torch.no_grad():
        before = model(images())
        after = make_explicit(model)(images())
    assert torch.allclose(before, after, atol=1e-5)
    assert len(roles_of(model).blocks) == 2


def test_a_distilled_deit_gives_timms_logits() -> None:
    model = made({}, VisionTransformerDistilled)
    with torch.no_grad():
        before = model(images())
        roles = roles_of(model)
        assert torch.allclose(before, model(images()), atol=1e-5)
    assert (roles.class_tokens, roles.has_class_token) == (2, True)
    assert (roles.ends.head, roles.ends.further_heads) == ("head", ("head_dist",))
    assert roles.embedding.further_tokens == ("dist_token",)


def test_images_of_another_size_are_served_where_timm_takes_them() -> None:
    model = made({"dynamic_img_size": True, "reg_tokens": 1})
    with torch.no_grad():
        before = model(images(side=48))
        assert torch.allclose(before, make_explicit(model)(images(side=48)), atol=1e-5)


@pytest.mark.parametrize("method", PTQ)
@pytest.mark.parametrize("name", OPTIONS)
def test_every_method_prepares_it_or_says_why_not(name: str, method: str) -> None:
    reason = serves(made(OPTIONS[name]), method, "W4A4")
    if name == "gated MLP" and method.startswith("psaq"):
        assert reason is not None
        assert "no node in the gated MLP of blocks.0" in reason
    else:
        assert reason is None


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("registers", "register tokens"),
        ("LayerScale", "LayerScale at blocks.0"),
        ("positions of patches alone", "no position embedding, or one without the class token"),
        ("no positions", "no position embedding, or one without the class token"),
        ("norm before the blocks", "a norm before the blocks"),
        ("norms of queries and keys", "norms within attention at blocks.0"),
        ("norm within the MLP", "a norm within the MLP at blocks.0"),
        ("images of any size", "a dynamic image size"),
        ("gated MLP", "a gated MLP at blocks.0"),
        ("no class token", "a classifier on global pooling other than class_token"),
    ],
)
def test_what_i_vit_has_no_integer_form_of_is_said(name: str, what: str) -> None:
    reason = serves(made(OPTIONS[name]), "i_vit", "W8A8")
    assert reason == f"I-ViT does not serve {what}, of which it has no integer form"


def test_i_vit_serves_a_vit_without_qkv_bias() -> None:
    assert serves(made(OPTIONS["no qkv bias"]), "i_vit", "W8A8") is None
    reason = serves(made({}, VisionTransformerDistilled), "i_vit", "W8A8")
    assert reason == "I-ViT does not serve a distillation token, of which it has no integer form"


@pytest.mark.parametrize("name", [n for n in OPTIONS if n != "gated MLP"])
def test_what_psaq_says_is_on_a_grid_really_is(name: str) -> None:
    """A layer or product without a quantizer of its input is fed by a node: its input has no more values than codes."""
    model = made(OPTIONS[name])
    psaq, options = registry.load("psaq_vit"), {"calibration": "real"}
    subject = subject_of(model, [images(4)])
    done = psaq.quantize(subject, Bits(4, 4), psaq.Options(**options)).model
    seen: dict[str, int] = {}

    def note(path: str, operand: int = 0) -> Any:
        return lambda _m, inputs: seen.update({f"{path} {operand}": len(inputs[operand].detach().unique())})

    for path, module in done.named_modules():
        if isinstance(module, (NodeLinear, NodeMatMul)) and module.operand_bits()[0] < 32:
            module.register_forward_pre_hook(note(path))
        if isinstance(module, NodeMatMul):
            module.register_forward_pre_hook(note(path, 1))
    with torch.no_grad():
        done(images(4))
    # queries, keys and values share a grid, and so do all tokens; the head may read one of them
    assert {path: count for path, count in seen.items() if count > 16} == {}
    assert len(seen) >= 2 * 6 + 1


@pytest.mark.parametrize("name", ["registers", "no class token, one norm", "LayerScale"])
@pytest.mark.parametrize("method", ["minmax", "repq_vit", "psaq_vit"])
def test_it_is_quantized_saved_and_loaded(name: str, method: str, tmp_path: Path) -> None:
    known = registry.load(method)
    options = known.Options(**({"calibration": "real"} if method == "psaq_vit" else {}))
    done = known.quantize(subject_of(made(OPTIONS[name]), [images(4)]), Bits(4, 4), options)
    header = {"method": method, "options": {}, "bits": "W4A4", "scope": "model", "architecture": {}, "identity": {}}
    saving.save(done, tmp_path / "m.safetensors", header)
    again = known.restore(made(OPTIONS[name]), Bits(4, 4), options, done.facts)
    saving.fill(again, tmp_path / "m.safetensors")
    with torch.no_grad():
        assert torch.equal(done.model.eval()(images()), again(images()))


def test_tokens_that_stand_for_no_patch_are_left_out_of_patch_similarity() -> None:
    sizes = {}
    for name in ("plain", "registers", "no class token"):
        model = made(OPTIONS[name])
        with PatchEntropy(model, 0.01, 10, "first" if name == "no class token" else "class_token") as entropy:
            taken = [entropy._dropped(attention) for attention in entropy.roles.attentions]
            model(images())
        sizes[name] = taken
    assert sizes == {"plain": [1, 1], "registers": [3, 3], "no class token": [1, 1]}


def test_nodes_of_norms_that_only_some_models_have_are_in_their_place() -> None:
    roles = roles_of(made({"qk_norm": True, "scale_mlp_norm": True, "pre_norm": True}))
    paths = node_paths(roles)
    assert {"norm_pre", "blocks.0.attn.q_norm", "blocks.0.attn.k_norm", "blocks.1.mlp.norm"} < set(paths)


class Gated(VisionTransformer):
    """A ViT whose attention is gated."""

    def __init__(self) -> None:
        super().__init__(**VIT)
        for block in self.blocks:
            block.attn.gate = nn.Linear(32, 32)  # type: ignore[union-attr]


class Own(nn.Module):
    """A network of one's own with timm's blocks in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 8, 8)
        self.blocks = nn.Sequential(Block(32, 2), Block(32, 2))


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda: made({"global_pool": "map"}), "pools by attention (global_pool map, attn_pool)"),
        (Gated, "blocks.0.attn is gated (attn.gate)"),
        (Own, "of stem beside them nothing says its role, and the roles embedding (projection, positions) and ends"),
        (lambda: timm.create_model("pit_ti_224"), "PoolingVisionTransformer has blocks of timm's ViT and is no"),
        (lambda: timm.create_model("vit_tiny_r_s16_p8_224"), "is HybridEmbed: the role embedding (projection)"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused_by_every_method(build: Callable[[], nn.Module], what: str) -> None:
    with torch.device("meta"):
        model = build()
    for method, bits in {**dict.fromkeys(PTQ, "W4A4"), "i_vit": "W8A8", "binary_vit": "W1A1"}.items():
        reason = serves(model, method, bits)
        assert reason is not None
        assert what in reason
        assert "\n" not in reason


class Mine(nn.Module):
    """A block of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.grow = nn.MultiheadAttention(8, 2), nn.Linear(8, 8)


def test_a_class_of_ones_own_is_told_its_blocks_the_missing_roles_and_the_page() -> None:
    with pytest.raises(UnsupportedError) as told:
        roles_of(nn.ModuleDict({"layers": nn.ModuleList([Mine(), Mine()])}))
    for words in ("its blocks are Mine)", "attention (qkv, softmax, proj)", "documentation: adding an adapter"):
        assert words in str(told.value)


class OwnForward(VisionTransformer):
    """A subclass that computes something else."""

    def forward(self, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return -super().forward(x)


class OwnSwin(SwinTransformer):
    """A subclass that computes something else."""


@pytest.mark.parametrize(
    "build", [lambda: OwnForward(**VIT), lambda: OwnSwin(img_size=56, patch_size=2, depths=(2, 2))]
)
def test_a_network_built_from_roles_is_not_built_of_a_subclass(build: Callable[[], nn.Module]) -> None:
    reason = serves(build(), "i_vit", "W8A8")
    assert reason is not None
    assert reason.startswith("I-ViT does not serve a class of its own, Own")

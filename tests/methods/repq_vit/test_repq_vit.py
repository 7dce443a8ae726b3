"""RepQ-ViT: reparameterization changes no FP function, the options do what they say, results are repeatable."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from subjects import NO_ROLES, subject_of
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitq.details import read_details
from vitq.details.repq_vit import Details
from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.explicit import make_explicit
from vitq.methods.architectures.roles import roles_of
from vitq.methods.architectures.timm_swin import ExplicitSwinBlock
from vitq.methods.bits import Bits
from vitq.methods.repq_vit import method as repq_vit
from vitq.methods.repq_vit.layernorm_reparam import layernorm_pairs, reparameterize
from vitq.methods.repq_vit.log_quantizers import LogQuantizer
from vitq.methods.toolkit.layers import QLinear
from vitq.methods.toolkit.modules import named_quantizers, set_mode
from vitq.methods.toolkit.quantizers import UniformQuantizer
from vitq.subject import Subject

Options = repq_vit.Options


def shake(model: nn.Module) -> nn.Module:
    """LayerNorms as a trained model has them, channels far apart, and attention that picks few tokens."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            n = module.weight.shape
            module.weight.data = torch.rand(n, generator=generator) * 3 + 0.05
            module.bias.data = torch.randn(n, generator=generator)
    for name, parameter in model.named_parameters():
        if name.endswith("qkv.weight"):
            parameter.data *= 4
    return model.eval()


def vit() -> nn.Module:
    torch.manual_seed(0)
    return shake(VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=10))


def swin() -> nn.Module:
    """36 pixels, patches of 2 and windows of 4: 18 and 9 are no multiples of 4, so both stages pad."""
    torch.manual_seed(0)
    return shake(
        SwinTransformer(
            img_size=36, patch_size=2, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4, num_classes=10
        )
    )


MODELS = pytest.mark.parametrize(("build", "side"), [(vit, 32), (swin, 36)])


def images(side: int, n: int = 8) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(2))


def run(model: nn.Module, batch: Any) -> Tensor:
    return model(batch["image"])


def given(model: nn.Module, batches: list[Any]) -> Subject:
    return subject_of(model, batches, forward=run)


def quantized(build: Callable[[], nn.Module], side: int, bits: str = "W4A4", **options: Any) -> nn.Module:
    subject = given(build(), [{"image": images(side)}])
    return repq_vit.quantize(subject, Bits.parse(bits), Options(**options)).model


@MODELS
def test_explicit_attention_computes_what_timm_computes(build: Callable[[], nn.Module], side: int) -> None:
    model, x = build(), images(side)
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(make_explicit(copy.deepcopy(model))(x), expected, rtol=1e-4, atol=1e-5)


@MODELS
@pytest.mark.parametrize("rounded", [False, True])
def test_reparameterization_leaves_the_function(build: Callable[[], nn.Module], side: int, rounded: bool) -> None:
    model, x = make_explicit(build()), images(side)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        expected = model(x)
        pairs = layernorm_pairs(roles_of(model))
        for pair in pairs:
            n = pair.norm.weight.shape[0]
            scale = torch.rand(n, generator=generator) + 0.1
            grid = reparameterize(pair, scale, torch.randint(0, 15, (n,), generator=generator).float(), rounded)
            assert grid[0].ndim == grid[1].ndim == 0
        torch.testing.assert_close(model(x), expected, rtol=1e-3, atol=1e-4)
    assert len(pairs) == (4 if side == 32 else 9)


def test_zero_padding_after_reparameterization_would_change_swin() -> None:
    model = quantized(swin, 36)
    set_mode(model, "off")
    x = images(36)
    with torch.no_grad():
        torch.testing.assert_close(model(x), swin()(x), rtol=1e-3, atol=1e-4)
        for module in model.modules():
            if isinstance(module, ExplicitSwinBlock):
                assert module.pad_value is not None
                module.pad_value = None
        assert (model(x) - swin()(x)).abs().max() > 1e-3


@MODELS
def test_rounded_zero_points_equal_the_channel_wise_grid_exactly(build: Callable[[], nn.Module], side: int) -> None:
    """Before weights are quantized again: the reparameterized codes, read through r1 and r2, are the channel's own."""
    model = quantized(build, side, layernorm="channel")
    for pair in layernorm_pairs(roles_of(model)):
        assert isinstance(pair.layer, QLinear)
        channel = pair.layer.input_quantizer
        assert isinstance(channel, UniformQuantizer)
        n = pair.norm.weight.shape[0]
        x = torch.randn(500, n, generator=torch.Generator().manual_seed(5)).double()
        norm, weight = copy.deepcopy(pair.norm).double(), pair.layer.weight.detach().double()
        bias = 0 if pair.layer.bias is None else pair.layer.bias.detach().double()
        wide = copy.deepcopy(channel).double()
        expected = wide(norm(x)) @ weight.T + bias
        pair.norm.double(), pair.layer.double()
        grid = reparameterize(pair, wide.scale, wide.zero_point, rounded=True)
        layer_wise = UniformQuantizer(4, channel.grid)
        layer_wise.set_grid(*grid)
        layer_wise.mode = "on"
        normed = pair.norm(x).detach()
        # an unclipped code range: clipping is a matter of r1*D too, and equal as well
        assert layer_wise.code_limits == (0, 15)
        codes = layer_wise.codes(normed) - grid[1]
        shifted = wide.codes(norm(x)) - wide.zero_point
        r2 = wide.zero_point - grid[1]
        torch.testing.assert_close(codes, (shifted + r2).double(), rtol=0, atol=1e-6)
        actual = layer_wise(normed) @ pair.layer.weight.T + pair.layer.bias
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@MODELS
def test_same_seed_same_bits(build: Callable[[], nn.Module], side: int) -> None:
    x = images(side)
    with torch.no_grad():
        first, second = (quantized(build, side)(x) for _ in range(2))
        assert torch.equal(first, second)
        assert not torch.equal(first, build()(x))


@MODELS
def test_wide_grids_come_close_to_fp32(build: Callable[[], nn.Module], side: int) -> None:
    x = images(side)
    with torch.no_grad():
        expected = build()(x)
        errors = [(quantized(build, side, b)(x) - expected).norm() / expected.norm() for b in ("W2A2", "W4A4", "W8A8")]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.1


@pytest.mark.parametrize(
    "option",
    [
        {"log_code_overflow": "clip"},
        {"rounded_zero_point": True},
        {"layernorm": "channel"},
        {"layernorm": "layer"},
        {"softmax": "log2"},
        {"softmax": "uniform"},
    ],
)
@MODELS
def test_every_option_changes_the_result(build: Callable[[], nn.Module], side: int, option: dict[str, Any]) -> None:
    x = images(side)
    with torch.no_grad():
        assert not torch.equal(quantized(build, side, "W4A3", **option)(x), quantized(build, side, "W4A3")(x))


@MODELS
def test_grids_are_those_of_the_table(build: Callable[[], nn.Module], side: int) -> None:
    model = quantized(build, side, "W3A5")
    for name, quantizer in named_quantizers(model).items():
        patch = name == "patch_embed.proj.input_quantizer"
        assert quantizer.bits == (3 if name.endswith("weight_quantizer") else 8 if patch else 5)
        assert isinstance(quantizer, LogQuantizer) == name.endswith(".av.left")
        assert quantizer.mode == "on"
        assert quantizer.scale.ndim == (1 if name.endswith("weight_quantizer") else 0)
    prepared = repq_vit.prepare(build(), Bits(3, 5), Options())
    assert [(n, b.shape) for n, b in prepared.named_buffers() if "quantizer" in n] == [
        (n, b.shape) for n, b in model.named_buffers() if "quantizer" in n
    ]
    assert [(n, p.shape) for n, p in prepared.named_parameters()] == [(n, p.shape) for n, p in model.named_parameters()]


def test_prepare_works_without_memory_for_weights() -> None:
    with torch.device("meta"):
        model = timm.create_model("swin_tiny_patch4_window7_224")
    prepared = repq_vit.prepare(model, Bits(4, 4), Options())
    assert isinstance(prepared.get_submodule("layers.1.downsample.reduction"), QLinear)
    assert prepared.get_submodule("layers.1.downsample.reduction").bias.shape == (192,)


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(UnsupportedError, match=NO_ROLES):
        repq_vit.prepare(nn.Sequential(nn.Linear(2, 2)), Bits(4, 4), Options())
    with pytest.raises(MethodInputError, match="one calibration batch"):
        repq_vit.quantize(given(vit(), []), Bits(4, 4), Options())
    with pytest.raises(MethodInputError, match="NaN"):
        repq_vit.quantize(given(vit(), [{"image": images(32) * float("nan")}]), Bits(4, 4), Options())


@pytest.mark.parametrize(
    ("bits", "good"), [("W4A4", True), ("W2A8", True), ("W9A8", False), ("W1A4", False), ("FP32", False)]
)
def test_widths_outside_two_to_eight_are_refused(bits: str, good: bool) -> None:
    assert (repq_vit.unsupported(Bits.parse(bits), Options()) is None) == good


def test_the_record_says_what_was_read_and_what_had_no_effect() -> None:
    done = repq_vit.quantize(
        given(vit(), [{"image": images(32)}] * 3),
        Bits(4, 4),
        Options(layernorm="channel", rounded_zero_point=True, softmax="uniform", log_code_overflow="clip"),
    )
    assert isinstance(done.details, Details)
    assert done.details.calibration_batches == 1
    assert done.details.without_effect == ["log_code_overflow", "rounded_zero_point"]
    assert done.details.layernorm_zero_points is None
    plain = repq_vit.quantize(given(vit(), [{"image": images(32)}]), Bits(4, 4), Options()).details
    assert isinstance(plain, Details)
    assert plain.without_effect == []
    assert plain.reparameterized_layernorms == 4
    assert plain.constant_channels == 0
    assert plain.layernorm_zero_points is not None
    assert all(0 <= z <= 15 for z in plain.layernorm_zero_points)
    assert read_details("repq_vit", plain.model_dump(mode="json")) == plain

"""PSAQ-ViT: the quantizer's values and nodes, the images it generates, and what it says to bad input."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from small_models import read
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitq.details import read_details
from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.explicit import make_explicit
from vitq.methods.bits import Bits
from vitq.methods.psaq_vit import method as psaq_vit
from vitq.methods.psaq_vit.image_generation import (
    clip_images,
    scaled_jitter,
    total_variation,
    variation_scale,
    warmup_cosine,
)
from vitq.methods.psaq_vit.options import ImageRecipe, Options
from vitq.methods.toolkit.nodes import ActivationQuantizer, NodeConv2d, NodeLinear, weight_quantizer
from vitq.options import declared, make_options
from vitq.subject import InputSpec, Subject

Fixture = Callable[..., Subject]
SPEC = InputSpec((3, 16, 16), (0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
SMALL = Options(images=4, iterations=6)
W8A8 = Bits(8, 8)


def vit() -> nn.Module:
    torch.manual_seed(0)
    model = VisionTransformer(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=5)
    nn.init.normal_(model.head.weight)
    return model.eval()


def swin() -> nn.Module:
    torch.manual_seed(0)
    return SwinTransformer(
        img_size=16, patch_size=2, window_size=4, embed_dim=8, depths=(2, 1), num_heads=(2, 2), num_classes=5
    ).eval()


def no_digest(_: Any) -> str:
    raise AssertionError("PSAQ-ViT has no use for a digest of outputs")


@pytest.fixture
def subject(tmp_path: Path) -> Fixture:
    def make(model: nn.Module | None = None, **changes: Any) -> Subject:
        real = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(9))
        return replace(
            Subject(
                model=model or vit(),
                calibration=lambda: iter([(real, torch.zeros(4, dtype=torch.long))]),
                look=lambda: iter([(real, torch.zeros(4, dtype=torch.long))]),
                forward=lambda m, batch: m(batch[0]),
                loss=lambda out, batch: nn.functional.cross_entropy(out, batch[1]),
                example=lambda: (real, torch.zeros(4, dtype=torch.long)),
                distance=lambda a, b: (a - b).abs().mean(),
                distill=lambda s, t: nn.functional.cross_entropy(s, t.softmax(-1)),
                digest=no_digest,
                synthesize=lambda x, g: (x, torch.randint(5, (len(x),), generator=g)),
                input=SPEC,
                artifacts=tmp_path,
            ),
            **changes,
        )

    return make


@pytest.fixture(scope="module")
def parts() -> dict[str, Tensor]:
    return read("psaq_vit.safetensors")[0]


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_get_the_released_codes_values(bits: int, parts: dict[str, Tensor]) -> None:
    quantizer = weight_quantizer(bits, 64)
    quantizer.mode = "calibrate"
    torch.testing.assert_close(quantizer(parts["w"]), parts[f"w_{bits}_dequantized"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", ["ties", "plain"])
def test_activations_get_the_released_codes_values_ties_included(
    bits: int, name: str, parts: dict[str, Tensor]
) -> None:
    quantizer, x, expected = ActivationQuantizer(bits), parts[f"{name}_x"], parts[f"{name}_dequantized_{bits}"]
    quantizer.mode = "calibrate"
    assert torch.equal(quantizer(x), expected)
    quantizer.mode = "on"
    assert torch.equal(quantizer.decode(quantizer.codes(x)), expected)
    assert torch.equal(quantizer(x.clone().requires_grad_()).detach(), expected)


def test_every_pixel_of_mean_and_std_a_half_is_a_tie(parts: dict[str, Tensor]) -> None:
    """Rounding before the zero point is added gives other codes for more than half of them."""
    quantizer, x = ActivationQuantizer(8), parts["ties_x"]
    quantizer.mode = "calibrate"
    quantizer(x)
    late = torch.round(x / quantizer.scale) + quantizer.zero_point
    assert (late.clamp(0, 255) != quantizer.codes(x)).float().mean() > 0.4


def test_total_variation_and_clipping_are_the_released_codes(parts: dict[str, Tensor]) -> None:
    image = parts["image"]
    torch.testing.assert_close(total_variation(image), parts["total_variation"][0], rtol=1e-5, atol=0)
    imagenet = InputSpec((3, 64, 64), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(clip_images(3 * image, imagenet)[:1, :, :32], parts["clipped"], rtol=1e-5, atol=1e-6)


def test_a_positive_extreme_clips_at_4_bit_to_14_fifteenths() -> None:
    quantizer = weight_quantizer(4, 1)
    quantizer.mode = "calibrate"
    assert quantizer(torch.tensor([[1.0, -0.2]]))[0, 0].item() == pytest.approx(7 / 7.5)


def test_zero_point_stays_a_code() -> None:
    quantizer = ActivationQuantizer(4)
    quantizer.mode = "calibrate"
    quantizer(torch.tensor([2.0, 3.0]))
    assert quantizer.zero_point.item() == 0


BLOCK = ["norm1", "attn.qkv", "attn.logits", "attn.av", "attn.proj", "add1", "norm2", "mlp.act", "mlp.fc2", "add2"]
SWIN_BLOCK = [*BLOCK, "attn.bias", "attn.bias_add"]
VIT_NODES = ["patch_embed.proj", "tokens", "position", "position_add", "norm", "head"]
SWIN_NODES = ["patch_embed.proj", "patch_embed.norm", "norm", "head.global_pool", "head.fc"]
SWIN_NODES += ["layers.1.downsample.norm", "layers.1.downsample.reduction"]


def expected(model: nn.Module) -> set[str]:
    if isinstance(model, VisionTransformer):
        return {*VIT_NODES, *(f"blocks.{i}.{n}" for i in range(2) for n in BLOCK)}
    blocks = ("layers.0.blocks.0", "layers.0.blocks.1", "layers.1.blocks.0")
    return {*SWIN_NODES, *(f"{p}.{n}" for p in blocks for n in SWIN_BLOCK)}


def nodes_of(model: nn.Module) -> set[str]:
    end = ".output_quantizer"
    return {name.removesuffix(end) for name, _ in model.named_modules() if name.endswith(end)}


@pytest.mark.parametrize("build", [vit, swin])
def test_nodes_are_those_of_the_paper_and_no_other(build: Callable[[], nn.Module]) -> None:
    model = psaq_vit.prepare(build(), Bits(4, 8), Options())
    assert nodes_of(model) == expected(model)
    assert isinstance(model.get_submodule("patch_embed.proj.input_quantizer"), ActivationQuantizer)
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert all(isinstance(m, (NodeLinear, NodeConv2d)) and m.operand_bits() == (8, 4) for m in layers)
    operands = {n.rpartition(".")[2]: m.operand_bits() for n, m in model.named_modules() if n.endswith((".qk", ".av"))}
    assert operands == {"qk": (8, 8), "av": (32, 8)}


def test_residual_in_floating_point_leaves_the_sums_alone() -> None:
    model = psaq_vit.prepare(swin(), Bits(4, 8), Options(residual="fp"))
    assert expected(model) - nodes_of(model) == {n for n in expected(model) if n.endswith(("add1", "add2"))}


def test_off_the_model_computes_as_before_and_on_every_node_is_on_its_grid(subject: Fixture) -> None:
    x = torch.randn(2, 3, 16, 16)
    for build in (vit, swin):
        plain, model = make_explicit(build()), psaq_vit.prepare(build(), Bits(4, 4), Options())
        torch.testing.assert_close(model(x), plain(x), rtol=1e-4, atol=1e-5)
        done = psaq_vit.quantize(subject(build()), Bits(4, 4), Options(calibration="real")).model
        seen: dict[str, Tensor] = {}
        for name in nodes_of(done):
            done.get_submodule(name).register_forward_hook(lambda m, i, o, name=name, seen=seen: seen.update({name: o}))
        done(x)
        assert all(len(value.unique()) <= 16 for value in seen.values())
        assert seen.keys() == nodes_of(done)


def test_the_quantized_model_survives_copying_saving_and_the_meta_device(subject: Fixture) -> None:
    done = psaq_vit.quantize(subject(), W8A8, Options(calibration="gaussian", images=4)).model
    x = torch.randn(3, 3, 16, 16)
    assert torch.equal(copy.deepcopy(done)(x), done(x))
    again = psaq_vit.prepare(vit(), Bits(8, 8), Options())
    again.load_state_dict(done.state_dict())
    for module in again.modules():
        if hasattr(module, "mode"):
            module.mode = "on"
    assert torch.equal(again(x), done(x))
    with torch.device("meta"):
        assert nodes_of(psaq_vit.prepare(vit(), Bits(8, 8), Options()))


def test_all_the_entropies_fall_and_images_differ_from_noise(subject: Fixture) -> None:
    done = psaq_vit.quantize(subject(), W8A8, Options(images=4, iterations=40))
    curves = done.details.curves
    assert sum(curves.entropy[-5:]) < sum(curves.entropy[:5])
    assert curves.one_hot[-1] < curves.one_hot[0]
    assert curves.total_variation[-1] < curves.total_variation[0]
    assert curves.iteration[-1] == 80
    images = load_file(done.files["images"])["images"]
    assert torch.equal(clip_images(images, SPEC), images)
    told = json.loads(json.dumps(done.details.model_dump(mode="json")))
    assert read_details("psaq_vit", told) == done.details


@pytest.mark.parametrize("build", [vit, swin])
def test_the_same_seed_gives_the_same_bits(build: Callable[[], nn.Module], subject: Fixture) -> None:
    runs = []
    for seed in (3, 3, 4):
        done = psaq_vit.quantize(subject(build(), seed=seed), W8A8, SMALL)
        torch.rand(1)  # the global generator has no say
        runs.append((load_file(done.files["images"])["images"].clone(), done.model(torch.ones(1, 3, 16, 16))))
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not torch.equal(runs[0][0], runs[2][0])


def test_a_run_is_repeated_from_its_images(subject: Fixture, tmp_path: Path) -> None:
    first = psaq_vit.quantize(subject(), W8A8, SMALL)
    kept = tmp_path / "kept.safetensors"
    first.files["images"].rename(kept)
    with pytest.raises(MethodInputError, match="holds 4 images and images is 32"):
        psaq_vit.quantize(subject(), W8A8, Options(images_from=str(kept)))
    again = psaq_vit.quantize(subject(), W8A8, replace(SMALL, images_from=str(kept)))
    x = torch.ones(1, 3, 16, 16)
    assert torch.equal(first.model(x), again.model(x))


@pytest.mark.parametrize(("calibration", "bands"), [("generated", 3), ("gaussian", 2), ("real", 2)])
def test_the_contact_sheet_shows_every_source(calibration: Any, bands: int, subject: Fixture) -> None:
    done = psaq_vit.quantize(subject(), W8A8, replace(SMALL, calibration=calibration))
    with Image.open(done.files["contact_sheet"]) as sheet:
        rows = {3: [1, 2, 1], 2: [2, 1]}[bands]  # 4 generated or real images in one row, 16 of noise in two
        assert sheet.height == sum(16 + 4 + r * (112 + 4) for r in rows)
    assert ("images" in done.files) == (calibration != "real")


def test_residual_ranges_are_told_whether_quantized_or_not(subject: Fixture) -> None:
    ranges = [
        psaq_vit.quantize(subject(), W8A8, Options(calibration="real", residual=kind)).details.residual_ranges
        for kind in ("quantized", "fp")
    ]
    assert ranges[0] == ranges[1]
    assert set(ranges[0]) == {f"blocks.{i}.add{k}" for i in range(2) for k in (1, 2)}
    assert all(low < high for low, high in ranges[0].values())


def test_the_schedule_is_the_papers() -> None:
    factors = [warmup_cosine(i, 500, 0.2) for i in range(500)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[99] == factors[100] == 1.0
    assert factors[300] == pytest.approx(0.5)
    assert 0 < factors[499] < 1e-4
    assert variation_scale((32, 3, 224, 224)) == 1.0
    assert variation_scale((8, 3, 112, 112)) == pytest.approx(0.25)
    assert scaled_jitter(15, InputSpec((3, 224, 224), SPEC.mean, SPEC.std)) == 15


def test_total_variation_grows_with_the_root_of_the_elements() -> None:
    generator = torch.Generator().manual_seed(0)
    small, large = (torch.randn(b, 3, s, s, generator=generator) for b, s in ((4, 64), (16, 128)))
    ratio = variation_scale(large.shape) / variation_scale(small.shape)
    assert float(total_variation(large) / total_variation(small)) == pytest.approx(ratio, rel=0.03)


def test_defaults_are_those_of_the_paper_and_the_released_code() -> None:
    known = declared(Options)
    assert {name: each.default for name, each in known.items()} == {
        "images": 32, "iterations": 500, "lr": None, "bandwidth": 0.01, "points": 10, "entropy_weight": 1.0,
        "one_hot_weight": 1.0, "tv_weight": 0.05, "tv_low": 2500.0, "tv_high": 3000.0, "warmup": 0.2,
        "jitter_first": 15, "jitter_second": 30, "flip": 0.5, "drop_token": "first", "calibration": "generated",
        "residual": "quantized", "images_from": None,
    }  # fmt: skip
    assert {name for name, each in known.items() if each.effect == "row"} == {"calibration", "residual", "drop_token"}
    recipe = [each for each in known.values() if each.effect == "recipe"]
    assert all(each.effect_when == {"calibration": "generated"} for each in recipe)
    assert known["iterations"].source == "released code"
    assert known["drop_token"].choices == ("first", "class")
    assert known["images_from"].file


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(images=0), "images is 0"),
        (Options(images=0, calibration="gaussian"), "images is 0"),
        (Options(iterations=0), "iterations is 0"),
        (Options(lr=-1.0), "lr must be positive"),
        (Options(images_from="no/such.safetensors"), "cannot be read"),
        (Options(images_from="x", calibration="gaussian"), "leave it out"),
        (Options(images_from="x", calibration="real"), "leave it out"),
    ],
)
def test_bad_options_are_answered_with_one_line(options: Options, says: str, subject: Fixture) -> None:
    with pytest.raises(MethodInputError, match=says) as caught:
        psaq_vit.quantize(subject(), W8A8, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["calibration", "residual", "drop_token"])
def test_a_word_that_is_no_choice_is_refused_before_anything_runs(name: str) -> None:
    with pytest.raises(MethodInputError, match=f"{name} is 'noise'"):
        make_options(Options, {name: "noise"})


def test_images_of_another_size_are_refused(subject: Fixture, tmp_path: Path) -> None:
    save_file({"images": torch.zeros(2, 3, 8, 8)}, tmp_path / "other.safetensors")
    with pytest.raises(MethodInputError, match=r"holds \[2, 3, 8, 8\], this model takes images of \[3, 16, 16\]"):
        psaq_vit.quantize(subject(), W8A8, Options(images_from=str(tmp_path / "other.safetensors")))


def test_an_empty_calibration_set_is_refused_where_it_is_needed(subject: Fixture) -> None:
    with pytest.raises(MethodInputError, match="calibration"):
        psaq_vit.quantize(subject(calibration=lambda: iter([])), W8A8, Options(calibration="real"))
    done = psaq_vit.quantize(subject(calibration=lambda: iter([])), W8A8, SMALL)
    assert done.details.images == 4


def test_a_model_without_attention_is_unsupported(subject: Fixture) -> None:
    with pytest.raises(UnsupportedError, match=r"Sequential has no block .* roles attention"):
        psaq_vit.quantize(subject(nn.Sequential(nn.Conv2d(3, 5, 16), nn.Flatten())), W8A8, SMALL)
    assert psaq_vit.unsupported(Bits.parse("FP32"), Options())
    assert psaq_vit.unsupported(Bits(4, 8), Options()) is None


def test_recipe_checks_shares() -> None:
    with pytest.raises(MethodInputError, match="warmup"):
        ImageRecipe(warmup=1.0).check()


def test_options_without_effect_are_told(subject: Fixture) -> None:
    told = {
        kind: psaq_vit.quantize(subject(), W8A8, replace(SMALL, calibration=kind)).details.without_effect
        for kind in ("generated", "gaussian", "real")
    }
    assert told == {"generated": [], "gaussian": ["iterations"], "real": ["images", "iterations"]}

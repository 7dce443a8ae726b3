"""RepQ-ViT against its released code on two small whole models: grids, weight codes and logits.

Where a float differs in its last bit, one activation takes another code and every later grid follows; so what lies
behind an activation is held to what such noise does to this very model, measured here, and the rest exactly.
"""

from __future__ import annotations

from functools import cache

import pytest
import small_models
import torch
from small_models import Kind
from subjects import subject_of
from torch import Tensor, nn

from vitq.methods.architectures.roles import roles_of
from vitq.methods.bits import Bits
from vitq.methods.repq_vit import method as repq_vit
from vitq.methods.repq_vit.layernorm_reparam import layernorm_pairs
from vitq.methods.toolkit.layers import QConv2d, QLinear
from vitq.methods.toolkit.modules import named_quantizers

CASES = pytest.mark.parametrize(("kind", "bits"), [(k, b) for k in ("vit", "swin") for b in ("W4A4", "W8A8")])
FIRST = {"vit": "blocks.0.", "swin": "layers.0.blocks.0."}
DRAWS = 4


def released(kind: Kind, bits: str) -> dict[str, Tensor]:
    return small_models.read("repq_vit_small_models.safetensors", f"{kind}.{bits}.")[0]


def quantize(kind: Kind, bits: str, images: Tensor) -> nn.Module:
    subject = subject_of(small_models.model(kind), [images], side=56)
    return repq_vit.quantize(subject, Bits.parse(bits), repq_vit.Options()).model


@cache
def run(kind: Kind, bits: str, draw: int) -> tuple[nn.Module, Tensor]:
    """The quantized model and its logits of images 8-11; draw 0 has no noise, the others 1e-7 on every image."""
    images = small_models.images()
    if draw:
        images = images + 1e-7 * torch.randn(images.shape, generator=torch.Generator().manual_seed(draw))
    model = quantize(kind, bits, images[:8])
    with torch.no_grad():
        return model, model(images[8:])


def numbers(model: nn.Module) -> dict[str, Tensor]:
    """Scales and zero points by the released vectors' names."""
    return {
        f"{name}.{part}": getattr(quantizer, part).view(-1)
        for name, quantizer in named_quantizers(model).items()
        for part in ("scale", "zero_point")
        if hasattr(quantizer, part)
    }


def distance(got: dict[str, Tensor], want: dict[str, Tensor], bits: str) -> float:
    """The furthest grid: relative for scales, in shares of the codes' range for zero points."""
    top = 2 ** int(bits[1]) - 1
    apart = [
        (got[name] - want[name]).abs() / (top if name.endswith("zero_point") else want[name])
        for name in numbers_of(want)
    ]
    return max(float(a.max()) for a in apart)


def numbers_of(vectors: dict[str, Tensor]) -> list[str]:
    return [name for name in vectors if name.endswith(("scale", "zero_point"))]


def relative(got: Tensor, want: Tensor) -> float:
    return float((got - want).norm() / want.norm())


@CASES
def test_nothing_is_quantized_that_the_released_code_does_not(kind: Kind, bits: str) -> None:
    assert set(numbers(run(kind, bits, 0)[0])) == set(numbers_of(released(kind, bits)))


@CASES
def test_weights_that_no_activation_precedes_are_exact(kind: Kind, bits: str) -> None:
    """All but those that LayerNorm's reparameterization rescales by the calibrated scales of activations."""
    model, want = run(kind, bits, 0)[0], released(kind, bits)
    rescaled = {id(pair.layer) for pair in layernorm_pairs(roles_of(model))}
    layers = {n: m for n, m in model.named_modules() if isinstance(m, (QLinear, QConv2d)) and id(m) not in rescaled}
    assert len(layers) == {"vit": 8, "swin": 10}[kind]
    got = numbers(model)
    for name, layer in layers.items():
        scale, zero = (f"{name}.weight_quantizer.{part}" for part in ("scale", "zero_point"))
        torch.testing.assert_close(got[scale], want[scale], rtol=1e-6, atol=0)
        assert torch.equal(got[zero], want[zero])
        assert torch.equal(layer.weight_codes(), want[f"{name}.weight_codes"].int())


@CASES
def test_the_first_blocks_grids_are_the_released_ones(kind: Kind, bits: str) -> None:
    """Rescaled weights, log-sqrt2 attention and per-tensor grids of reparameterized inputs among them."""
    model, want = run(kind, bits, 0)[0], released(kind, bits)
    got = {name: value for name, value in numbers(model).items() if name.startswith((FIRST[kind], "patch_embed"))}
    assert len(got) > 20
    for name, value in got.items():
        torch.testing.assert_close(value, want[name], rtol=1e-6, atol=1e-6, msg=name)
    for name in (f"{FIRST[kind]}attn.qkv", f"{FIRST[kind]}mlp.fc1"):
        codes = model.get_submodule(name).weight_codes()  # type: ignore[operator]
        differ = codes != want[f"{name}.weight_codes"].int()
        assert differ.float().mean() <= 1e-3, name  # a tie in the last bit


@CASES
def test_all_grids_and_logits_are_within_what_noise_of_1e_7_does(kind: Kind, bits: str) -> None:
    model, logits = run(kind, bits, 0)
    got, want = numbers(model), released(kind, bits)
    noisy = [run(kind, bits, draw) for draw in range(1, DRAWS + 1)]
    spread = max(relative(other, logits) for _, other in noisy)
    moved = max(distance(numbers(m), got, bits) for m, _ in noisy)
    assert relative(logits, want["logits"]) <= 2 * spread + 1e-5
    assert distance(got, want, bits) <= 2 * moved + 1e-6
    assert spread < relative(logits, small_models.fp32_logits(kind))  # noise is less than quantization itself
    assert moved < 0.25  # one scale of a percentile search that takes another quantile

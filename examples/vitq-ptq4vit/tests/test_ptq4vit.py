"""PTQ4ViT's grids and search against what is written out, and whole models through vitq's own path."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from vitq_ptq4vit.capture import sampled_targets
from vitq_ptq4vit.options import Options
from vitq_ptq4vit.quantizers import GELU_LEAST, SymmetricQuantizer, TwinGelu, TwinSoftmax
from vitq_ptq4vit.search import Seen, multipliers, search, search_layer

import vitq
from vitq.benchmarks.measure.accounting import account
from vitq.datasets.calibration import Calibration
from vitq.datasets.registry import DATASETS
from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.registry import load
from vitq.methods.toolkit import saving
from vitq.subject import Subject
from vitq.tasks.base import Places
from vitq.tasks.names import model_entry
from vitq.tasks.registry import load as load_task

METHOD, TASK = load("ptq4vit"), load_task("classification")
SHORT = {"candidates": 10, "rounds": 1}
SEEDS, WIDTHS = st.integers(0, 2**20), st.sampled_from([4, 6, 8])


def dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def twin(bits: int, i: int, both: bool = False) -> TwinSoftmax:
    quantizer = TwinSoftmax(bits, both)
    quantizer.set_scale(torch.tensor([2.0**-i]))
    return quantizer


@settings(max_examples=40, deadline=None)
@given(SEEDS, WIDTHS, st.integers(0, 19))
def test_attention_has_a_fine_grid_below_the_split_and_a_coarse_one_above(seed: int, bits: int, i: int) -> None:
    x, n, split = torch.rand(200, generator=dice(seed)).square(), 2 ** (bits - 1), 2.0**-i
    quantizer = twin(bits, i)
    codes, found = quantizer.codes(x), quantizer.fake_quant(x)
    assert codes.min() >= 0
    assert codes.max() <= 2 * n - 1
    step = torch.where(x >= split, 1 / (n - 1), split / (n - 1))
    assert bool(((found - x).abs() <= step * 0.5001).all())
    assert torch.allclose(found / step, (found / step).round(), atol=1e-3)
    assert bool(((codes >= n) == (x >= split)).all())


@settings(max_examples=40, deadline=None)
@given(SEEDS, WIDTHS, st.integers(0, 19))
def test_the_released_grid_adds_both_ranges(seed: int, bits: int, i: int) -> None:
    x, n, split = torch.rand(200, generator=dice(seed)).square(), 2 ** (bits - 1), 2.0**-i
    chosen, added = twin(bits, i).fake_quant(x), twin(bits, i, both=True).fake_quant(x)
    more = torch.where(x >= split, split, round(split * (n - 1)) / (n - 1))
    assert torch.allclose(added - chosen, more, atol=1e-6)
    assert float((added - chosen)[x < split].abs().max() if bool((x < split).any()) else 0) == 0 or i < 8


def test_a_split_is_one_of_twenty_powers_of_two() -> None:
    assert torch.equal(twin(8, 0).candidates(torch.rand(3), torch.ones(5))[:, 0], 2.0 ** -torch.arange(20.0))


def test_gelu_has_a_fixed_negative_step_and_a_searched_one() -> None:
    x = F.gelu(torch.linspace(-6, 3, 1000))
    assert float(x.min()) == pytest.approx(-GELU_LEAST, abs=1e-4)
    quantizer = TwinGelu(8)
    quantizer.set_scale(quantizer.start(x))
    codes, found = quantizer.codes(x), quantizer.fake_quant(x)
    assert (int(codes.min()), int(codes.max())) == (-128, 127)
    assert torch.equal(quantizer.decode(codes), found)
    step = torch.where(x < 0, GELU_LEAST / 128, quantizer.scale)
    assert bool(((found - x).abs() <= step * 0.5001).all())
    shifts = TwinGelu(8, shifted=True).candidates(x, torch.ones(3))[:, 0] / (GELU_LEAST / 128)
    assert torch.equal(shifts, 2.0 ** torch.arange(16.0))


@settings(max_examples=30, deadline=None)
@given(SEEDS, WIDTHS)
def test_a_symmetric_search_starts_where_the_extreme_is_half_a_step_beyond_the_last_code(seed: int, bits: int) -> None:
    x = torch.randn(6, 5, generator=dice(seed))
    quantizer = SymmetricQuantizer(bits, groups=3, axis=0)
    start = quantizer.start(x)
    for group in range(3):
        assert start[group] == x[2 * group : 2 * group + 2].abs().max() / (2 ** (bits - 1) - 0.5)
    quantizer.set_scale(start)
    assert bool(((quantizer.fake_quant(x) - x).abs() <= 0.5001 * start.repeat_interleave(2)[:, None]).all())
    assert torch.equal(quantizer.decode(quantizer.codes(x)), quantizer.fake_quant(x))
    assert torch.equal(SymmetricQuantizer(bits).start(torch.zeros(3)), torch.ones(1) / (2 ** (bits - 1) - 0.5))


def test_a_hundred_candidates_leave_the_last_of_a_hundred_and_one_out() -> None:
    tried = multipliers(0.01, 1.2, 100)
    assert len(tried) == 100
    assert (float(tried[0]), float(tried[-1])) == pytest.approx((0.01, 1.1881))


def seen(seed: int, features: int | None = 2) -> Seen:
    """A linear layer of 4 inputs and 6 features, or a product of 3 heads; two images."""
    draw = dice(seed)
    if features is None:
        left, right = torch.rand(2, 3, 5, 5, generator=draw), torch.randn(2, 3, 5, 4, generator=draw)
        output = left @ right
    else:
        left, right = torch.randn(2, 5, 4, generator=draw), torch.randn(6, 4, generator=draw)
        output = F.linear(left, right)
    return Seen(left, right, output, torch.randn(output.shape, generator=draw), features)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_the_hessian_guided_distance_is_a_weighted_squared_error(seed: int) -> None:
    layer, other = seen(seed), torch.randn(2, 5, 6, generator=dice(seed + 1))
    assert layer.gradient is not None
    weighted = layer.gradient**2 * (layer.output - other) ** 2
    by_group = torch.stack([weighted[..., 2 * g : 2 * g + 2].sum() for g in range(3)])
    assert torch.allclose(layer.hessian(other, 3), by_group, rtol=1e-5)
    assert torch.allclose(layer.hessian(other, 1), weighted.sum().view(1), rtol=1e-5)
    product, heads = seen(seed, None), torch.randn(2, 3, 5, 4, generator=dice(seed + 1))
    weighted = product.gradient**2 * (product.output - heads) ** 2  # type: ignore[operator]
    assert torch.allclose(product.hessian(heads, 3), weighted.sum((0, 2, 3)), rtol=1e-5)


def test_the_cosine_is_within_each_group_or_head() -> None:
    layer = dataclasses.replace(seen(0), gradient=None)
    assert torch.allclose(layer.score(layer.output * 3, 3), -torch.ones(3))
    assert torch.allclose(layer.score(-layer.output, 1), torch.ones(1))
    product = dataclasses.replace(seen(0, None), gradient=None)
    turned = product.output.clone()
    turned[:, 1] *= -1
    assert torch.allclose(product.score(turned, 3), torch.tensor([-1.0, 1.0, -1.0]))
    assert torch.allclose(product.score(turned, 1), torch.tensor([-1 / 3]))


@settings(max_examples=15, deadline=None)
@given(SEEDS, WIDTHS)
def test_a_search_takes_each_groups_best_candidate(seed: int, bits: int) -> None:
    layer, weight = seen(seed), SymmetricQuantizer(bits, groups=3)
    factors = multipliers(0.01, 1.2, 20)
    start = weight.start(layer.right)
    search(weight, layer.right, factors, lambda w: F.linear(layer.left, w), layer)
    for group in range(3):
        rows = slice(2 * group, 2 * group + 2)
        scores = []
        for factor in factors:
            step = start[group] * factor
            w = layer.right[rows].div(step).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step
            error = layer.gradient[..., rows] * (layer.output[..., rows] - F.linear(layer.left, w))  # type: ignore[index]
            scores.append(float(error.square().sum()))
        assert scores[int(((weight.scale[group] / start[group]) - factors).abs().argmin())] <= min(scores) * 1.0001


def test_more_rounds_end_no_farther() -> None:
    def distance(rounds: int) -> float:
        layer, weight, inputs = seen(3), SymmetricQuantizer(4, groups=3), SymmetricQuantizer(4)
        search_layer(layer, F.linear, weight, inputs, multipliers(0.01, 1.2, 50), rounds)
        return float(layer.hessian(F.linear(inputs.fake_quant(layer.left), weight.fake_quant(layer.right)), 1))

    assert distance(3) <= distance(1)


def test_labels_are_drawn_from_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0]).log1p().expand(20000, 3).clone().requires_grad_()
    target = sampled_targets(logits.detach(), dice(0)).softmax(-1)
    assert float((target.max(-1).values > 0.999).float().mean()) > 0.998
    assert torch.allclose(target.mean(0), torch.tensor([1.0, 2.0, 3.0]) / 6, atol=0.015)
    F.cross_entropy(logits, target, reduction="sum").backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.allclose(logits.grad, logits.detach().softmax(-1) - target, atol=1e-6)


def opened(model: str) -> Any:
    how, spec = model_entry(model).preprocessing, Calibration.parse({"images": 16, "batch": 8})
    return DATASETS.load("digits").open(how, spec, {}, limit=60, seed=0, workers=0)


def quantized(model: str, bits: str, **options: Any) -> tuple[Quantized, Subject]:
    subject = TASK.subject(TASK.load_model(model, Places()), opened(model))
    done = METHOD.quantize(subject, Bits.parse(bits), Options(**options))
    done.model.eval()
    return done, subject


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("digits_vit", {}),
        ("digits_swin", {}),
        ("digits_vit", {"softmax": "released", "gradient": "released"}),
        ("digits_swin", {"metric": "cosine", "softmax": "uniform", "gelu": "uniform", "low": 0.5}),
        ("digits_vit", {"gelu": "shifted"}),
    ],
    ids=["vit", "swin", "released", "base", "shifted"],
)
def test_a_model_is_quantized_saved_and_loaded(model: str, options: dict[str, Any], tmp_path: Path) -> None:
    batch = next(iter(opened(model).calibration()))
    fp32 = TASK.load_model(model, Places()).model
    done, _ = quantized(model, "W8A8", **SHORT, **options)
    with torch.no_grad():
        ours, plain = done.model(batch[0]), fp32(batch[0])
    assert (ours - plain).norm() < 0.3 * plain.norm()
    architecture = {"task": "classification", "model": model_entry(model).model_dump(mode="json", by_alias=True)}
    words = dataclasses.asdict(Options(**SHORT, **options))
    saved = saving.save(
        done,
        tmp_path / "m.safetensors",
        saving.header_of("ptq4vit", words, "W8A8", "model", done.facts, done.exec, architecture, {}),
    )
    with torch.no_grad():
        assert torch.equal(vitq.load(saved.path)(batch[0]), ours)


def test_widths_are_counted_and_the_image_stays_in_floating_point() -> None:
    fp32 = TASK.load_model("digits_vit", Places())
    part = METHOD.prepare(TASK.load_model("digits_vit", Places()).model, Bits(6, 5), Options())
    sample = TASK.example(fp32.preprocessing, 1, "meta")
    found = account(fp32.model, part.to("meta"), sample, Bits(6, 5), TASK.forward)
    rows = {row.path: (row.left_bits, row.right_bits) for row in found.layers}
    assert rows["patch_embed.proj"] == (32, 6)
    assert rows["head"] == rows["blocks.0.mlp.fc2"] == (5, 6)
    assert rows["blocks.0.attn.qk"] == rows["blocks.0.attn.av"] == (5, 5)


def test_a_gradient_of_zero_is_refused_by_the_layer() -> None:
    subject = TASK.subject(TASK.load_model("digits_vit", Places()), opened("digits_vit"))
    subject.distill = lambda output, _: (output * 0).sum()
    with pytest.raises(MethodInputError, match=r"the gradient that weighs errors is zero.*set gradient: sampled"):
        METHOD.quantize(subject, Bits(8, 8), Options(**SHORT))


def test_a_part_is_quantized_by_its_scope_and_refused_without() -> None:
    whole = nn.Sequential(TASK.load_model("digits_vit", Places()).model, nn.Identity())
    with pytest.raises(UnsupportedError, match="give the scope of one"):
        METHOD.prepare(whole, Bits(8, 8), Options())
    subject = TASK.subject(TASK.load_model("digits_vit", Places()), opened("digits_vit"), scope="0")
    subject.model = whole
    done = METHOD.quantize(subject, Bits(8, 8), Options(**SHORT, metric="cosine"))
    assert isinstance(done.model[1], nn.Identity)  # type: ignore[index]


def test_another_activation_than_gelu_is_refused() -> None:
    model: Any = TASK.load_model("digits_vit", Places()).model
    model.blocks[1].mlp.act = nn.SiLU()
    with pytest.raises(UnsupportedError, match=r"blocks\.1\.mlp\.act is SiLU: set gelu: uniform"):
        METHOD.prepare(model, Bits(8, 8), Options())


def test_what_cannot_be_had_is_said_before_a_cell_runs() -> None:
    assert "2..8 bits" in str(METHOD.unsupported(Bits(8, 1), Options()))
    assert "at least one candidate" in str(METHOD.unsupported(Bits(8, 8), Options(candidates=0)))
    assert METHOD.unsupported(Bits(8, 8), Options()) is None

"""PMQ end to end on small random transformers, and its sensitivity against definitions."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from counting import account
from subjects import digest
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitq.details.pmq import Details
from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.bits import Bits
from vitq.methods.pmq import allocation
from vitq.methods.pmq import method as pmq
from vitq.methods.pmq.components import build, components, count_costs, set_width
from vitq.methods.pmq.directional import directional
from vitq.methods.pmq.options import Options
from vitq.methods.pmq.patch_quantizers import PatchQuantizer
from vitq.methods.pmq.sensitivity import connection, table
from vitq.methods.toolkit.layers import QLinear, QMatMul
from vitq.methods.toolkit.modules import set_mode
from vitq.methods.toolkit.quantizers import UniformQuantizer
from vitq.subject import InputSpec, Subject

Batch = tuple[Tensor, Tensor]
W4A4, W6A6, W8A8 = (Bits.parse(word) for word in ("W4A4", "W6A6", "W8A8"))


def vit(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    known: dict[str, Any] = {
        "img_size": 16,
        "patch_size": 4,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 2,
        "num_classes": 5,
    }
    return VisionTransformer(**(known | options)).eval()


def swin() -> nn.Module:
    torch.manual_seed(0)
    return SwinTransformer(
        img_size=24, patch_size=2, embed_dim=12, depths=(2, 2), num_heads=(2, 2), window_size=4, num_classes=5
    ).eval()


def subject(model: nn.Module, batches: int = 1, seed: int = 0) -> Subject:
    size = 24 if isinstance(model, SwinTransformer) else 16
    generator = torch.Generator().manual_seed(7)
    data = [(torch.randn(6, 3, size, size, generator=generator), torch.arange(6) % 5) for _ in range(batches)]

    def batches_again() -> Iterator[Batch]:
        return iter(data)

    def synthesize(images: Tensor, generator: torch.Generator) -> Batch:
        return images, torch.randint(5, (images.shape[0],), generator=generator)

    return Subject(
        model=copy.deepcopy(model), calibration=batches_again, example=lambda: data[0], digest=digest,
        forward=lambda m, b: m(b[0]), loss=lambda out, b: F.cross_entropy(out, b[1]),
        distance=lambda left, right: (left - right).abs().mean(),
        distill=lambda s, t: F.kl_div(s.log_softmax(-1), t.softmax(-1)), synthesize=synthesize,
        input=InputSpec((3, size, size), (0.5,) * 3, (0.5,) * 3), seed=seed,
    )  # fmt: skip


def images(model: nn.Module, n: int = 3) -> Tensor:
    size = 24 if isinstance(model, SwinTransformer) else 16
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(3))


def bits_of(details: Details) -> list[tuple[int | None, int]]:
    return [(c.weight_bits, c.activation_bits) for c in details.components]


def test_sensitivity_is_the_gradient_of_masks() -> None:
    """Against masks written out: every operand times m, dL/dm at m = 1, from one backward pass each."""
    model = build(vit(), Bits(4, 4))
    parts, given = components(model), subject(vit())
    batch = next(given.calibration())
    found = connection(parts, lambda: given.loss(given.forward(model, batch), batch), 6, order=2)
    for part in parts:
        if isinstance(part.module, QLinear):
            weight = part.module.weight.detach()
            mask = torch.ones_like(weight, requires_grad=True)
            loss = given.loss(
                torch.func.functional_call(model, {f"{part.name}.weight": weight * mask}, batch[:1]), batch
            )
            (gradient,) = torch.autograd.grad(loss, mask)
            assert found[part.weight()] == pytest.approx(float(gradient.norm()), rel=1e-4)  # type: ignore[index]
        for quantizer in part.activations():
            mask = None

            def times_mask(_: nn.Module, __: Any, out: Tensor) -> Tensor:
                nonlocal mask
                mask = torch.ones_like(out, requires_grad=True)
                return out * mask

            handle = quantizer.register_forward_hook(times_mask)
            loss = given.loss(given.forward(model, batch), batch)
            handle.remove()
            (gradient,) = torch.autograd.grad(loss, mask)  # type: ignore[arg-type]
            assert found[quantizer] == pytest.approx(float(gradient.flatten(1).norm(dim=1).sum()), rel=1e-4)


def test_directional_sensitivity_is_the_first_order_change_of_each_image() -> None:
    """Against finite differences: move one operand a little towards its quantized form, image by image."""
    model = build(vit(), Bits(4, 4)).double()
    parts, given = components(model), subject(vit())
    x, y = next(given.calibration())
    batch = (x.double(), y)
    set_mode(model, "observe")
    count_costs(parts, lambda: given.forward(model, batch))
    for part in parts:
        if not isinstance(part.module, QMatMul):
            part.weight().observe(part.module.weight.detach())  # type: ignore[union-attr]
    set_mode(model, "off")
    rows = directional(parts, lambda: given.loss(given.forward(model, batch), batch), 6, (3,))
    step = 1e-4

    def losses() -> Tensor:
        with torch.no_grad():
            return F.cross_entropy(model(batch[0]), y, reduction="none")

    base = losses()
    for part in parts:
        expected = 0.0
        for quantizer in part.activations():
            trial = UniformQuantizer(3, quantizer.grid)
            trial.set_grid(*quantizer.grid.grid(3))
            handle = quantizer.register_forward_hook(lambda _, __, out, t=trial: out + step * (t.fake_quant(out) - out))
            expected += float(((losses() - base) / step).square().mean())
            handle.remove()
        assert rows[part.name]["activation"][3] == pytest.approx(expected, rel=0.02)
        quantizer = part.weight()
        if quantizer is not None:
            weight = part.module.weight
            before = weight.detach().clone()
            set_width(quantizer, 3)
            weight.data.add_(step * (quantizer.fake_quant(before.clone()) - before))
            expected = float(((losses() - base) / step).square().mean())
            weight.data.copy_(before)
            assert rows[part.name]["weight"][3] == pytest.approx(expected, rel=0.02)


def test_a_model_without_gradient_asks_for_random_labels() -> None:
    given = subject(vit())
    given.loss = lambda out, _: (out * 0).sum()
    with pytest.raises(MethodInputError, match="labels: random"):
        pmq.quantize(given, W4A4, Options(labels="task"))


@pytest.mark.parametrize("make", [vit, swin])
def test_costs_are_those_that_accounting_counts(make: Any) -> None:
    model = make()
    given = subject(model)
    quantized = pmq.quantize(given, W4A4, Options(cost="bitops"))
    size = given.input.size
    counted = account(model, quantized.model, size, W4A4)
    assert quantized.details.gbitops * 1e9 == pytest.approx(counted.operations.bitops)
    assert sum(c.macs for c in quantized.details.components) == counted.operations.macs


@pytest.mark.parametrize("make", [vit, swin])
@pytest.mark.parametrize("cost", ["size", "bitops"])
@pytest.mark.parametrize("allocation", ["pareto", "uniform", "random", "leave_one_out"])
def test_every_allocation_keeps_the_budget_and_computes(make: Any, cost: str, allocation: str) -> None:
    model = make()
    options = Options(allocation=allocation, cost=cost)  # type: ignore[arg-type]
    quantized = pmq.quantize(subject(model), W4A4, options)
    again = pmq.quantize(subject(model), W4A4, options)
    x = images(model)
    assert torch.equal(quantized.model(x), again.model(x))
    assert bits_of(quantized.details) == bits_of(again.details)
    assert not torch.equal(quantized.model(x), model(x))
    for problem in quantized.details.problems:
        if problem.chosen:
            assert problem.smallest <= problem.chosen[0] <= problem.budget
    if allocation == "uniform":
        assert {b for pair in bits_of(quantized.details) for b in pair if b} == {4}
    json.dumps(quantized.details.model_dump(mode="json"), allow_nan=False)


def test_pareto_beats_every_allocation_by_its_own_measure() -> None:
    """Brute force over the pairs of widths of a model of six components."""
    model = build(vit(depth=1), Bits(4, 4))
    parts, given = components(model), subject(vit(depth=1))
    picked = [p for p in parts if p.name in {"blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.0.attn.av",
                                              "blocks.0.mlp.fc1", "blocks.0.mlp.fc2", "head"}]  # fmt: skip
    assert len(picked) == 6
    set_mode(model, "observe")
    count = count_costs(parts, lambda: given.forward(model, next(given.calibration())))
    for part in picked:
        if part.weights:
            part.weight().observe(part.module.weight.detach())  # type: ignore[union-attr, operator]
    set_mode(model, "off")
    batch = next(given.calibration())
    sizes = connection(parts, lambda: given.loss(given.forward(model, batch), batch), count, 2)
    widths = (2, 4)
    omega = table(picked, sizes, widths, "squared")
    knapsack = allocation.problem_of("bitops", picked, widths, sum(p.macs * 16 for p in picked) * 0.8)
    choice, front = allocation.pareto(knapsack, omega, 10**6)
    omegas = allocation.perturbations(knapsack, omega)
    every = [
        (knapsack.total(c), sum(o[i] for o, i in zip(omegas, c, strict=True)))
        for c in itertools.product(*(range(len(o)) for o in knapsack.options))
    ]
    best = min(p for c, p in every if c <= knapsack.budget)
    assert sum(o[i] for o, i in zip(omegas, choice, strict=True)) == pytest.approx(best, rel=1e-12)
    for cost, perturbation in zip(front.cost, front.perturbation, strict=True):
        assert perturbation == pytest.approx(min(p for c, p in every if c <= cost), rel=1e-12)


def test_random_draws_differ_and_fill_the_budget() -> None:
    draws = [pmq.quantize(subject(vit()), W4A4, Options(allocation="random", draw=d)).details for d in (0, 1)]
    assert bits_of(draws[0]) != bits_of(draws[1])
    for details in draws:
        assert 3.5 < details.average_bits.weights <= 4
        assert 3.5 < details.average_bits.activations <= 4


def test_budget_in_mb_is_what_a_shipped_model_takes() -> None:
    model = vit()
    given = subject(model)
    uniform = pmq.quantize(subject(model), W6A6, Options(allocation="uniform"))
    room = account(model, uniform.model, given.input.size, W4A4).size.packed_mb
    quantized = pmq.quantize(given, W4A4, Options(budget_kind="mb", budget=room))
    counted = account(model, quantized.model, given.input.size, W4A4).size.packed_mb
    assert 0.9 * room < counted <= room + 1e-9
    assert quantized.details.average_bits.weights > 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(budget=1.5), "below the smallest"),
        (Options(budget=9), "above the largest"),
        (Options(budget_kind="mb", budget=0.001), "below the smallest"),
        (Options(cost="bitops", budget_kind="gbitops", budget=1e-6), "below the smallest"),
        (Options(cost="bitops", budget_kind="gbitops", budget=1e6), "above the largest"),
        (Options(cost="bitops", budget_kind="mb", budget=1), "change `cost` or `budget_kind`"),
        (Options(budget_kind="mb"), "set `budget`"),
        (Options(patch_wise=True, patch_saving=0.9), "lower `patch_saving`"),
        (Options(patch_wise=True, patch_saving=1.0), "patch_saving"),
    ],
)
def test_bad_budgets_give_one_clear_line(options: pmq.Options, words: str) -> None:
    with pytest.raises(MethodInputError, match=words) as caught:
        pmq.quantize(subject(vit()), W4A4, options)
    assert "\n" not in str(caught.value)


def test_bad_models_widths_and_calibration() -> None:
    with pytest.raises(UnsupportedError, match=r"roles attention .* are missing"):
        pmq.prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)), Bits(4, 4), Options())
    assert "2 to 8 bits" in str(pmq.unsupported(Bits(1, 1), Options()))
    assert "2 to 8 bits" in str(pmq.unsupported(Bits(32, 32), Options()))
    assert "2..8" in str(pmq.unsupported(Bits(4, 4), Options(widths=(4, 16))))
    assert pmq.unsupported(Bits(4, 8), Options()) is None
    with pytest.raises(MethodInputError, match="at least one calibration batch"):
        pmq.quantize(dataclasses.replace(subject(vit()), calibration=lambda: iter(())), W4A4, Options())


def test_prepare_needs_no_data_and_works_on_meta() -> None:
    with torch.device("meta"):
        model = VisionTransformer(img_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=2)
    prepared = pmq.prepare(model, Bits(4, 6), Options())
    assert {p.module.operand_bits() for p in components(prepared)} == {(6, 4), (6, 6)}


@pytest.mark.parametrize(
    "model", [vit(), vit(class_token=False, global_pool="avg"), vit(reg_tokens=2), swin()],
    ids=["class token", "no class token", "register tokens", "swin"],
)  # fmt: skip
@pytest.mark.parametrize("cost", ["size", "bitops"])
def test_patch_wise_widths_meet_the_bitops_budget(model: nn.Module, cost: str) -> None:
    saving = 0.12 if isinstance(model, SwinTransformer) else 0.05  # padding of windows alone saves 5 %
    options = Options(cost=cost, patch_wise=True, patch_saving=saving)  # type: ignore[arg-type]
    quantized = pmq.quantize(subject(model), W4A4, options)
    details, given = quantized.details, subject(model)
    patches = details.patches
    counted = account(model, quantized.model, given.input.size, W4A4).operations.bitops
    assert counted == pytest.approx(patches.gbitops * 1e9, rel=1e-6)
    assert patches.gbitops <= patches.gbitops_before * (1 - saving)
    assert 0 < patches.share < 1
    if cost == "bitops":
        uniform = sum(c.macs for c in details.components) * 16
        assert counted <= uniform
    x = images(model)
    assert torch.equal(quantized.model(x), pmq.quantize(subject(model), W4A4, options).model(x))


def test_the_patches_that_the_class_token_ignores_run_lower() -> None:
    quantized = pmq.quantize(subject(vit()), W8A8, Options(budget=8, patch_wise=True, patch_saving=0.05))
    model = quantized.model
    fc1 = model.get_submodule("blocks.0.mlp.fc1.input_quantizer")
    av = model.get_submodule("blocks.0.attn.av")
    assert isinstance(fc1, PatchQuantizer)
    assert (fc1.high.bits, fc1.low.bits) == (8, 6)
    seen: dict[str, Tensor] = {}
    av.register_forward_pre_hook(lambda _, inputs: seen.update(attention=inputs[0]))
    fc1.register_forward_hook(lambda q, inputs, out: seen.update(x=inputs[0], out=out))
    model(images(model))
    importance = seen["attention"].mean(1)[:, 0, 1:]
    lowered = (seen["out"] != fc1.high.fake_quant(seen["x"])).any(-1)
    assert not lowered[:, 0].any()
    assert lowered.sum(1).tolist() == [fc1.ranking.count(17)] * 3
    for row, low in zip(importance, lowered[:, 1:], strict=True):
        assert row[low].max() <= row[~low].min()
    assert torch.equal(fc1.decode(fc1.codes(seen["x"][:3])), fc1.fake_quant(seen["x"][:3]))


def test_swin_ranks_in_the_map_and_quantizes_in_windows() -> None:
    """What a window's place is told must be what its pixel was told, shifts included."""
    quantized = pmq.quantize(subject(swin()), W8A8, Options(patch_wise=True, patch_saving=0.03))
    block = quantized.model.get_submodule("layers.0.blocks.1")
    quantizer = block.attn.proj.input_quantizer  # type: ignore[union-attr]
    assert isinstance(quantizer, PatchQuantizer)
    assert quantizer.windows is not None
    ranking = quantizer.ranking
    layout = ranking.layout(quantizer.windows, torch.device("cpu"))
    ranking.share = 0.5
    marks = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    rolled = torch.roll(marks.permute(0, 2, 3, 1), (-2, -2), (1, 2))
    windows = rolled.view(2, 3, 4, 3, 4).permute(0, 1, 3, 2, 4).reshape(2, 9 * 16)
    assert torch.equal(marks.flatten(1)[:, layout], windows)
    received = torch.rand(18, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    ranking.update(received, layout)
    assert ranking.low is not None
    in_windows = received.mean(1).mean(1).reshape(2, -1)
    low_in_windows = ranking.low[:, layout]
    assert in_windows[0][low_in_windows[0]].max() <= in_windows[0][~low_in_windows[0]].min()


def test_compare_search_times_both_and_counts_forward_passes() -> None:
    details = pmq.quantize(subject(vit()), W4A4, Options(compare_search=True)).details
    layers = sum(1 for c in details.components if c.weights)
    expected = (len(details.components) + layers) * 5 + 1
    assert details.search_seconds["leave_one_out_passes"] == expected
    assert {"calibration", "pareto", "frontier", "leave_one_out"} <= set(details.search_seconds)

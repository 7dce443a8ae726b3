"""PMQ on detectors and segmenters: widths by the loss of their own heads, for the backbone or for all of the model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import dense_subjects as dense
import pytest
import torch
from torch import Tensor, nn

from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.pmq import method as pmq
from vitq.methods.pmq.components import build, components
from vitq.methods.pmq.directional import directional
from vitq.methods.pmq.patch_quantizers import PatchQuantizer
from vitq.methods.pmq.search import Search, calibrate
from vitq.methods.toolkit import saving
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul
from vitq.subject import WHOLE, Subject, part_of, put_part

BITS = Bits.parse("W4A4")
MODELS = pytest.mark.parametrize("name", dense.MODELS)
OPTIONS: dict[str, dict[str, Any]] = {
    "pareto": {"frontier_points": 64, "labels": "task"},
    "its own options": {"frontier_points": 64},
    "squared": {"frontier_points": 64, "perturbation": "squared", "labels": "task"},
    "bitops": {"frontier_points": 64, "cost": "bitops", "labels": "task"},
    "patch-wise": {"frontier_points": 64, "labels": "task", "patch_wise": True, "patch_saving": 0.05},
}
PATCHES, BLOCK = 1, 6
COMPONENTS = {"detector": 4 * BLOCK + 1, "swin_segmenter": 4 * BLOCK + 1, "vit_segmenter": 2 * BLOCK}


def quantized(name: str, scope: str = "backbone", **options: Any) -> Quantized:
    chosen = pmq.Options(**(OPTIONS["pareto"] | options))
    return pmq.quantize(dense.subject(name, scope=scope), BITS, chosen)


@MODELS
@pytest.mark.parametrize("variant", OPTIONS)
def test_the_backbone_alone_gets_widths(name: str, variant: str) -> None:
    done = pmq.quantize(dense.subject(name), BITS, pmq.Options(**OPTIONS[variant]))
    details: Any = done.details
    assert dense.same_outside(done.model, dense.make(name))
    assert len(details.components) == PATCHES + COMPONENTS[name]
    assert ("labels" in details.without_effect) == ("labels" in OPTIONS[variant]), "the task's own are taken anyway"
    assert all(c.macs > 0 and c.inputs > 0 for c in details.components)
    assert all(c.sensitivity["activation"][2] > 0 for c in details.components)
    assert len({c.weight_bits for c in details.components if c.weight_bits}) > 1, "nothing was allocated"
    if variant != "bitops":
        assert details.average_bits.weights <= 4
        assert details.average_bits.activations <= 4
    with torch.no_grad():
        output = dense.forward(done.model, dense.scenes(6))
    assert dense.digest(output) != dense.digest(dense.forward(dense.make(name), dense.scenes(6)))


@MODELS
def test_all_of_the_model_can_be_the_scope(name: str) -> None:
    done = quantized(name, WHOLE)
    layers = [path for path, m in done.model.named_modules() if isinstance(m, (QLinear, QConv2d, QMatMul))]
    outside = [path for path in layers if not path.startswith("backbone.")]
    assert outside
    found = {c.name: c for c in done.details.components}  # type: ignore[attr-defined]
    assert set(layers) == set(found)
    assert all(found[path].sensitivity["weight"][2] > 0 for path in outside)
    assert dense.forward(done.model, dense.scenes(6))


def test_the_whole_models_budget_counts_the_heads() -> None:
    """The same averages over more layers: MACs of neck and head enter the problem of the activations."""
    part, whole = (quantized("detector", scope).details for scope in ("backbone", WHOLE))
    macs = [sum(c.macs for c in details.components) for details in (part, whole)]  # type: ignore[attr-defined]
    budgets = [details.problems[1].budget for details in (part, whole)]  # type: ignore[attr-defined]
    assert macs[1] > macs[0]
    assert budgets == [4 * macs[0], 4 * macs[1]]


@MODELS
@pytest.mark.parametrize(("scope", "variant"), [("backbone", "pareto"), (WHOLE, "pareto"), ("backbone", "patch-wise")])
def test_a_saved_model_comes_back(name: str, scope: str, variant: str, tmp_path: Path) -> None:
    done = quantized(name, scope, **OPTIONS[variant])
    file = saving.save(done, tmp_path / "saved", {"scope": scope})
    fresh = dense.make(name, seed=1)
    part = pmq.restore(part_of(fresh, scope), BITS, pmq.Options(**OPTIONS[variant]), done.facts)
    again = saving.fill(put_part(fresh, scope, part), file.path)
    for seed in (5, 6):
        digests = [dense.digest(dense.forward(m, dense.scenes(seed))) for m in (again, done.model)]
        assert digests[0] == digests[1]


@MODELS
def test_patches_are_ranked_on_the_map_of_each_batch(name: str) -> None:
    """The size of the map follows the images, in a copy of the model too, and the share of patches with it."""
    model = copy.deepcopy(quantized(name, **OPTIONS["patch-wise"]).model)
    quantizers = [m for m in model.modules() if isinstance(m, PatchQuantizer)]
    ranking = quantizers[-1].ranking
    assert all(quantizer.ranking is ranking for quantizer in quantizers)
    for seed, n in ((9, 2), (7, 1), (8, 1)):
        images = dense.padded(dense.scenes(seed, n))
        with torch.no_grad():
            features = part_of(model, "backbone")(images)
        assert ranking.low is not None
        tokens = ranking.prefix + features[-1][0, 0].numel()
        assert ranking.low.shape == (n, tokens)
        assert ranking.low.sum(1).tolist() == [ranking.count(tokens)] * n


class Heads(nn.Module):
    """A layer that runs on two levels of each image, and one that runs on proposals, none of the first image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared, self.rows = nn.Conv2d(2, 2, 1, bias=False), nn.Linear(2, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        levels = [self.shared(x), self.shared(x[..., ::2])]
        return torch.stack([level.sum((1, 2, 3)) for level in levels]).sum(0), self.rows(x[1, :, 0, :3].T)


def test_levels_are_summed_image_by_image_and_proposals_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Omega is mean_i <dL_i/dW, E>^2 of a layer that runs twice an image; of rows the sum of squares over images."""
    from vitq.methods.pmq import components as module

    model, x = Heads(), torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(module, "quantize_standard_layers", _plain)
    part = build(model, BITS)
    found = components(part)

    def forward(m: Any, batch: Tensor) -> Any:
        return m(batch)

    subject = dense.subject("vit_segmenter", model=part, forward=forward, calibration=lambda: iter([x]))
    calibrate(Search(subject, BITS, pmq.Options(), part, found))

    def loss() -> Tensor:
        images, rows = part(x)
        return (images.square().sum() + rows.square().sum()) / 2

    table = directional(found, loss, images=2, widths=[2])
    for index, name in enumerate(("shared", "rows")):
        layer = part.get_submodule(name)
        component = found[index]
        quantizer: Any = component.weight()
        quantizer.set_grid(*quantizer.grid.grid(2))
        quantizer.bits = 2
        error = (quantizer.fake_quant(layer.weight) - layer.weight).detach()  # type: ignore[operator, arg-type]
        want = _rows_change(part, x, error) if name == "rows" else _shared_change(part, x, error)
        assert table[name]["weight"][2] == pytest.approx(want, rel=1e-4)


def _shared_change(part: Any, x: Tensor, error: Tensor) -> float:
    changes = []
    for image in x:
        y = part.shared.weight.detach().clone().requires_grad_()
        total = sum(torch.conv2d(v[None], y).sum() for v in (image, image[..., ::2]))
        (gradient,) = torch.autograd.grad(total.square(), y)  # type: ignore[union-attr]
        changes.append(float((gradient * error).sum()) ** 2)
    return sum(changes) / len(changes)


def _rows_change(part: Any, x: Tensor, error: Tensor) -> float:
    rows = x[1, :, 0, :3].T
    weight = part.rows.weight.detach()
    gradients = 2 * (rows @ weight.T) * rows  # of the sum over rows: of images each half, times the two images
    return float((gradients @ error[0]).square().sum() / 2)


def _plain(part: nn.Module, layer: Any, product: Any) -> None:
    for name, module in list(part.named_children()):
        if isinstance(module, nn.Linear):
            setattr(part, name, QLinear.of(module, *layer(name, module)))
        elif isinstance(module, nn.Conv2d):
            setattr(part, name, QConv2d.of(module, *layer(name, module)))


def test_a_loss_that_samples_gives_the_same_sensitivity_twice() -> None:
    def sampled(subject: Subject) -> Any:
        def loss(output: list[Tensor], batch: Any) -> Tensor:
            keep = torch.rand(output[-1].shape) < 0.5
            return dense.loss([*output[:-1], output[-1] * keep], batch)

        subject.loss = loss
        return pmq.quantize(subject, BITS, pmq.Options(**OPTIONS["pareto"])).details

    torch.manual_seed(1)
    first = sampled(dense.subject("vit_segmenter"))
    torch.manual_seed(2)
    assert sampled(dense.subject("vit_segmenter")).components == first.components

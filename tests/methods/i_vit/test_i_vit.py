"""I-ViT's networks: integers only, the same logits in every form, ranges that survive, training that helps."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from i_vit_models import SIZE, W8A8, batches, calibrated, job, run, short_swin, short_vit, swin, vit
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitq.details import read_details
from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.explicit import make_explicit
from vitq.methods.bits import Bits
from vitq.methods.i_vit import checks, operators_paper
from vitq.methods.i_vit import method as i_vit
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Output, Scaled
from vitq.methods.i_vit.integer import integer
from vitq.methods.i_vit.linear import IntegerLinear
from vitq.methods.i_vit.matmul import IntegerMatMul
from vitq.methods.i_vit.network import Network
from vitq.methods.toolkit.stored import HasOperands, HasPacked

MODELS = pytest.mark.parametrize("make", [vit, swin])


class Core(nn.Module):
    """The network from int8 image codes to logits, for export."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, codes: Tensor) -> Tensor:
        return self.network.run(codes)


def floating_nodes(module: nn.Module, example: Tensor) -> list[str]:
    """Every tensor of the exported graph, inputs, weights and constants included, that is in floating point."""
    program = torch.export.export(module, (example,))
    wrong = []
    for node in program.graph.nodes:
        value = node.meta.get("val")
        for tensor in value if isinstance(value, (tuple, list)) else [value]:
            if isinstance(tensor, Tensor) and (tensor.is_floating_point() or tensor.is_complex()):
                used = bool(node.users) or node.op != "placeholder"
                wrong += [f"{node.op} {node.name} {tensor.dtype}"] if used else []
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("make", [short_vit, short_swin])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"softmax": "polynomial", "gelu": "polynomial"},
        {"softmax": "log_int", "layernorm": "l1"},
        {"softmax_bits": 16},
    ],
)
def test_the_exported_graph_holds_no_float(make: Any, options: dict[str, Any]) -> None:
    network = integer(calibrated(make(), Forms("paper", **options)), SIZE)
    codes = torch.randint(-128, 128, (1, *SIZE), dtype=torch.int8)
    assert network.run(codes).dtype is torch.int32
    assert floating_nodes(Core(network), codes) == []


def test_the_walk_finds_a_float_in_the_middle() -> None:
    class Leak(Core):
        def forward(self, codes: Tensor) -> Tensor:
            return (self.network.run(codes) / 2).to(torch.int32)

    network = integer(calibrated(short_vit(), Forms("paper")), SIZE)
    codes = torch.zeros(1, *SIZE, dtype=torch.int8)
    assert floating_nodes(Leak(network), codes)


@MODELS
@pytest.mark.parametrize("options", [{}, {"rounding": "floor"}, {"softmax": "log_int"}, {"gelu": "polynomial"}])
def test_the_integers_give_what_the_training_form_gives(make: Any, options: dict[str, Any]) -> None:
    network = calibrated(make(), Forms("paper", **options))
    images = batches(1, 8, seed=5)[0][0]
    with torch.no_grad():
        assert torch.equal(integer(network, SIZE)(images), network(images))


@MODELS
def test_a_layer_is_one_product_however_many_windows_and_heads(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = integer(calibrated(make(), Forms("paper")), SIZE)
    layers = sum(isinstance(m, IntegerLinear) for m in network.modules())
    products = sum(isinstance(m, IntegerMatMul) for m in network.modules())
    assert layers > products > 0
    called: list[str] = []
    for name in ("matmul", "float_product", "product"):
        real = getattr(operators_paper, name)
        monkeypatch.setattr(operators_paper, name, lambda *a, real=real, name=name: called.append(name) or real(*a))
    small = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda *a: called.append("_int_mm") or small(*a))
    network(batches(1, 8)[0][0])
    assert called.count("_int_mm") == called.count("matmul") == layers
    assert called.count("product") == products
    assert "float_product" not in called, "the CPU multiplies integers"


@MODELS
@pytest.mark.parametrize("arithmetic", ["paper", "release"])
def test_post_training_is_near_the_real_network(make: Any, arithmetic: str, tmp_path: Path) -> None:
    done = run(make, tmp_path, arithmetic=arithmetic)
    images = batches(1, 32, seed=9)[0][0]
    with torch.no_grad():
        exact, got = make()(images), done.model(images)
    error = (got - exact).pow(2).mean() / (exact - exact.mean(0)).pow(2).mean()
    assert error < 0.05
    assert done.exec == ("integer-only:torch" if arithmetic == "paper" else "fake-quant")


@MODELS
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_any_calibration_and_any_image_stay_within_their_types(make: Any, scale: float) -> None:
    """Saturate, never wrap: the int32 and int64 results equal those of the same graph in wider or exact numbers."""
    forms = Forms("paper")
    network = Network(make(), forms).eval()
    for output in (m for m in network.modules() if isinstance(m, Output)):
        output.observe(torch.tensor([-scale, scale]))
    model = integer(network, SIZE)
    seen: list[tuple[Tensor, int]] = []
    for module in model.modules():
        if hasattr(module, "out") and module.out is not None:
            module.register_forward_hook(lambda m, _, y: seen.append((y, m.out.bits)))
    codes = torch.stack([torch.full(SIZE, -128), torch.full(SIZE, 127), torch.randint(-128, 128, SIZE)]).to(torch.int8)
    logits = model.run(codes)
    assert logits.abs().max() <= 2**23
    assert seen
    for y, bits in seen:
        assert y.min() >= -(2 ** (bits - 1))
        assert y.max() <= 2 ** (bits - 1) - 1


def test_gamma_of_zero_and_below(tmp_path: Path) -> None:
    def odd() -> VisionTransformer:
        model = vit()
        with torch.no_grad():
            for block in model.blocks:
                block.norm1.weight[::2] *= -1
                block.norm2.weight[::3] = 0
                block.norm2.bias[::3] = 0.5
        return model

    done = run(odd, tmp_path)
    images = batches(1, 32, seed=9)[0][0]
    with torch.no_grad():
        exact, got = odd()(images), done.model(images)
    assert (got - exact).pow(2).mean() / (exact - exact.mean(0)).pow(2).mean() < 0.05
    with pytest.raises(MethodInputError, match=r"blocks.0.norm2 is 0"):
        run(odd, tmp_path, arithmetic="release")


def test_ranges_follow_with_momentum_and_stand_still_in_eval() -> None:
    output = Output(Forms().activation, Forms(), torch.device("cpu")).eval()
    output.observe(torch.tensor([-1.0, 2.0]))
    assert (float(output.low), float(output.high)) == (-1.0, 2.0)
    output.observe(torch.tensor([-3.0, 0.0]))
    torch.testing.assert_close(output.low, torch.tensor(-1.0 * 0.95 - 3.0 * 0.05))
    torch.testing.assert_close(output.high, torch.tensor(2.0 * 0.95))
    before = output.high.clone()
    output(Scaled(torch.tensor([100.0]), torch.tensor(1.0)))
    assert torch.equal(output.high, before)
    output.train()(Scaled(torch.tensor([100.0]), torch.tensor(1.0)))
    assert output.high > before
    assert {"low", "high", "seen"} <= set(output.state_dict())


def test_swin_of_odd_maps_pads_as_timm_does(tmp_path: Path) -> None:
    def odd() -> SwinTransformer:
        return swin(window_size=3)

    done = run(odd, tmp_path)
    images = batches(1, 16, seed=4)[0][0]
    with torch.no_grad():
        exact, got = odd()(images), done.model(images)
    assert (got - exact).pow(2).mean() / (exact - exact.mean(0)).pow(2).mean() < 0.05


@MODELS
def test_products_keep_their_paths_and_say_their_widths(make: Any) -> None:
    model = make()
    products = {
        name
        for name, m in make_explicit(copy.deepcopy(model)).named_modules()
        if isinstance(m, (nn.Linear, nn.Conv2d)) or name.endswith((".qk", ".av"))
    }
    prepared = i_vit.prepare(model, Bits(8, 8), i_vit.Options())
    widths = {name: m.operand_bits() for name, m in prepared.named_modules() if isinstance(m, HasOperands)}
    assert set(widths) == products
    assert set(widths.values()) == {(8, 8)}
    parameters = sum(p.numel() for p in make().parameters())
    stored = [row for m in prepared.modules() if isinstance(m, HasPacked) for row in m.packed_tensors()]
    size = sum(row.numel * row.bits for row in stored) / 8
    assert parameters < size < 2.5 * parameters
    network = calibrated(make(), Forms("paper"))
    form = integer(network, SIZE)
    assert not list(form.parameters())
    again = [row for m in form.modules() if isinstance(m, HasPacked) for row in m.packed_tensors()]
    assert sum(r.numel * r.bits for r in again) == size * 8


def test_prepare_works_without_weights() -> None:
    with torch.device("meta"):
        prepared = i_vit.prepare(vit(), Bits(8, 8), i_vit.Options())
    assert all(p.is_meta for p in prepared.parameters())


@pytest.mark.parametrize(("limit", "words"), [("MAX_INPUTS", "sums .* products"), ("MAX_CHANNELS", "channels")])
def test_sums_that_no_analysis_covers_are_unsupported(limit: str, words: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(checks, limit, 8)
    with pytest.raises(UnsupportedError, match=words):
        i_vit.prepare(vit(), Bits(8, 8), i_vit.Options())


def test_what_cannot_be_served_is_said() -> None:
    assert i_vit.unsupported(Bits(4, 4), i_vit.Options())
    assert i_vit.unsupported(Bits(8, 8), i_vit.Options()) is None
    with pytest.raises(UnsupportedError, match="pooling"):
        Network(vit(global_pool="avg"), Forms())
    with pytest.raises(UnsupportedError, match="LayerScale"):
        Network(vit(init_values=0.1), Forms())
    with pytest.raises(UnsupportedError, match="Linear"):
        Network(nn.Linear(2, 2), Forms())
    with pytest.raises(UnsupportedError, match="integer form"):
        integer(calibrated(vit(), Forms("release")), SIZE)
    with pytest.raises(MethodInputError, match="paper_operators"):
        i_vit.Options(paper_operators=("gellu",))


def test_no_calibration_and_no_training_data_are_said(tmp_path: Path) -> None:
    empty = job(vit(), tmp_path)
    empty.calibration = lambda: iter([])
    with pytest.raises(MethodInputError, match="calibration batch"):
        i_vit.quantize(empty, W8A8, i_vit.Options(epochs=0))
    started = i_vit.quantize(job(vit(), tmp_path), W8A8, i_vit.Options(arithmetic="release", epochs=1))
    assert started.details.calibration_batches == 0, "the released training starts from unset ranges"
    assert not list(tmp_path.rglob("training.pt")), "the checkpoint stayed behind"
    untrained = job(vit(), tmp_path)
    untrained.training = None
    with pytest.raises(MethodInputError, match="set epochs to 0"):
        i_vit.quantize(untrained, W8A8, i_vit.Options(epochs=1))


@pytest.mark.parametrize("arithmetic", ["paper", "release"])
def test_a_run_killed_after_its_last_epoch_ends_as_one_that_was_not(
    arithmetic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = i_vit.Options(arithmetic=arithmetic, epochs=1, lr=1e-4)

    def killed(model: Network) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(i_vit, "refuse_unfit_grids", killed)
        with pytest.raises(KeyboardInterrupt):
            i_vit.quantize(job(vit(), tmp_path), W8A8, options)
    assert (tmp_path / "training.pt").is_file()
    resumed = i_vit.quantize(job(vit(), tmp_path), W8A8, options)
    (tmp_path / "whole").mkdir()
    whole = i_vit.quantize(job(vit(), tmp_path / "whole"), W8A8, options)
    images = batches(1, 8, seed=3)[0][0]
    with torch.no_grad():
        assert torch.equal(resumed.model(images), whole.model(images))
    assert resumed.details == whole.details


def held_out_loss(model: nn.Module) -> float:
    with torch.no_grad():
        losses = [F.cross_entropy(model(images), labels) for images, labels in batches(3, 32, seed=50)]
    return float(torch.stack(losses).mean())


@pytest.mark.slow
@pytest.mark.parametrize(("make", "distill"), [(short_vit, False), (short_vit, True), (short_swin, False)])
def test_short_training_improves_and_repeats(make: Any, distill: bool, tmp_path: Path) -> None:
    results = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        results.append(run(make, tmp_path / folder, epochs=3, lr=1e-3, drop_path=0.1, distill=distill))
    history = results[0].details.training
    assert history == results[1].details.training
    images = batches(1, 8, seed=3)[0][0]
    with torch.no_grad():
        assert torch.equal(results[0].model(images), results[1].model(images))
    if not distill:
        untrained = run(make, tmp_path)
        assert held_out_loss(results[0].model) < held_out_loss(untrained.model) - 0.1
        assert history[-1].loss < history[0].loss


def test_gradients_are_those_of_the_real_function() -> None:
    model = vit()
    network = calibrated(copy.deepcopy(model), Forms("paper"))
    images, labels = batches(1, 16, seed=2)[0]
    F.cross_entropy(network(images), labels).backward()
    F.cross_entropy(model(images), labels).backward()
    for name in ("blocks.0.attn.qkv.weight", "blocks.1.mlp.fc2.weight", "head.weight"):
        ours, real = network.get_parameter(name).grad, model.get_parameter(name).grad
        assert ours is not None
        assert real is not None
        assert F.cosine_similarity(ours.flatten(), real.flatten(), dim=0) > 0.8, name


def test_one_operator_of_the_paper_within_release(tmp_path: Path) -> None:
    images = batches(1, 8, seed=3)[0][0]
    with torch.no_grad():
        plain = calibrated(vit(), Forms("release"))(images)
        for operator in ("weights", "activations", "softmax", "gelu", "layernorm", "residual"):
            mixed = calibrated(vit(), Forms("release", frozenset({operator})))(images)
            assert not torch.equal(plain, mixed), operator
            assert (plain - mixed).abs().max() < 0.5, operator


def test_details_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    details = run(
        short_vit, tmp_path, arithmetic="release", epochs=1, lr=1e-4, softmax="log_int", softmax_bits=16
    ).details
    written = json.loads(json.dumps(details.model_dump(mode="json")))
    assert read_details("i_vit", written) == details
    assert set(written) == {"without_effect", "calibration_batches", "training", "operators"}
    assert written["without_effect"] == ["softmax_bits"]
    assert [set(epoch) for epoch in written["training"]] == [{"epoch", "loss", "lr"}]
    keys = {"operator", "variant", "unit", "max_error", "mean_error", "x", "error"}
    assert all(set(curve) == keys for curve in written["operators"])


def test_curves_are_recorded_for_every_operator(tmp_path: Path) -> None:
    rows = run(vit, tmp_path).details.operators
    assert {row.operator for row in rows} == {"softmax", "gelu", "layernorm", "requantization"}
    for row in rows:
        assert len(row.x) == len(row.error) <= 65
        assert row.max_error >= max(abs(e) for e in row.error) * 0.999

"""Every method on a pruned model: a dead input channel, a dead head, constant LayerNorm channels, an empty patch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_models
import torch
from small_models import Kind
from subjects import subject_of
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.base import Quantized
from vitq.methods.binary_vit import method as binary_vit
from vitq.methods.bits import Bits
from vitq.methods.minmax import method as minmax
from vitq.methods.pmq import method as pmq
from vitq.methods.psaq_vit import method as psaq_vit
from vitq.methods.psaq_vit_v2 import method as psaq_vit_v2
from vitq.methods.repq_vit import method as repq_vit
from vitq.subject import Subject

KINDS = pytest.mark.parametrize("kind", ["vit", "swin"])
SHORT = {"images": 4, "image_steps": 2, "training_steps": 2, "cycles": 2}
RUNS: dict[str, tuple[Any, Any, str]] = {
    "minmax": (minmax, minmax.Options(), "W8A8"),
    "repq_vit": (repq_vit, repq_vit.Options(), "W8A8"),
    "repq_vit-rounded": (repq_vit, repq_vit.Options(rounded_zero_point=True), "W8A8"),
    "repq_vit-channel": (repq_vit, repq_vit.Options(layernorm="channel"), "W8A8"),
    "psaq_vit": (psaq_vit, psaq_vit.Options(calibration="real"), "W8A8"),
    "psaq_vit-generated": (psaq_vit, psaq_vit.Options(images=4, iterations=3), "W8A8"),
    "psaq_vit_v2": (psaq_vit_v2, psaq_vit_v2.Options(**SHORT), "W8A8"),
    "pmq": (pmq, pmq.Options(), "W6A6"),
    "pmq-leave-one-out": (pmq, pmq.Options(allocation="leave_one_out", patch_wise=True), "W6A6"),
    "pmq-relative": (pmq, pmq.Options(perturbation="relative", cost="bitops"), "W6A6"),
}
METHODS = pytest.mark.parametrize("name", RUNS)


def blocks(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if hasattr(m, "norm1") and hasattr(m, "mlp")]


@torch.no_grad()
def prune(model: nn.Module, beta: float = 5.0) -> nn.Module:
    """What is zeroed in each block: a head, MLP units, and LayerNorm channels (one of them left at `beta`)."""
    for block in blocks(model):
        qkv, heads = block.attn.qkv, block.attn.num_heads
        width = qkv.out_features // 3
        for part in range(3):
            rows = slice(part * width, part * width + width // heads)
            qkv.weight[rows] = 0
            qkv.bias[rows] = 0
        block.mlp.fc1.weight[:4] = 0
        block.mlp.fc1.bias[:4] = 0
        block.mlp.fc2.weight[:, :4] = 0
        for norm in (block.norm1, block.norm2):
            norm.weight[:2] = 0
            norm.bias[0], norm.bias[1] = beta, 0
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    first.weight[3] = 0
    return model


def given(model: nn.Module, artifacts: Path, **changes: Any) -> Subject:
    shown = small_models.images()[:8].clone()
    shown[0, :, :8, :8] = 0
    labels = torch.arange(8) % 20

    def synthesize(x: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        return x, torch.randint(20, (len(x),), generator=g)

    return subject_of(
        model, [(shown, labels)], side=56, forward=lambda m, batch: m(batch[0]),
        loss=lambda out, batch: nn.functional.cross_entropy(out, batch[1]),
        distance=lambda a, b: (a - b).abs().mean(),
        distill=lambda s, t: nn.functional.cross_entropy(s, t.softmax(-1)),
        synthesize=synthesize, artifacts=artifacts, **changes,
    )  # fmt: skip


def error(name: str, change: Callable[[nn.Module], nn.Module], kind: Kind, artifacts: Path) -> float:
    """Relative error of the logits of images 8-11 against the model before it is quantized."""
    method, options, bits = RUNS[name]
    model, images = change(small_models.model(kind)), small_models.images()[8:]
    with torch.no_grad():
        expected = copy.deepcopy(model)(images)
    done: Quantized = method.quantize(given(model, artifacts), Bits.parse(bits), options)
    with torch.no_grad():
        logits = done.model(images)
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(b).all() for b in done.model.buffers() if b.is_floating_point())
    return float((logits - expected).norm() / expected.norm())


@METHODS
@KINDS
def test_a_pruned_model_is_quantized_about_as_well_as_it_was(name: str, kind: Kind, tmp_path: Path) -> None:
    whole = error(name, lambda m: m, kind, tmp_path)
    assert error(name, prune, kind, tmp_path) < 3 * whole + 0.02


@KINDS
@pytest.mark.parametrize("bits", ["W4A4", "W8A8"])
@pytest.mark.parametrize(("gamma", "beta"), [(0.0, -20.0), (0.0, 0.0), (1e-8, 1.0), (1e-6, 1.0), (1e-5, -20.0)])
def test_a_constant_channel_leaves_repq_vits_common_grid_alone(
    bits: str, gamma: float, beta: float, kind: Kind, tmp_path: Path
) -> None:
    """Its zero point, 1e5 and more, was averaged with the others', which took the model from 42 % to 0."""

    @torch.no_grad()
    def still(model: nn.Module) -> nn.Module:
        for block in blocks(model):
            for norm in (block.norm1, block.norm2):
                norm.weight[5], norm.bias[5] = gamma, beta
        return model

    plain, model = (
        repq_vit.quantize(given(change(small_models.model(kind)), tmp_path), Bits.parse(bits), repq_vit.Options()).model
        for change in (lambda m: m, still)
    )
    for name, module in model.named_modules():
        if name.endswith(("qkv.input_quantizer", "fc1.input_quantizer")):
            top = 2**module.bits - 1
            assert 0 <= module.zero_point <= top
            assert module.scale < 3 * plain.get_submodule(name).scale
    images = small_models.images()[8:]
    with torch.no_grad():
        expected, logits = still(small_models.model(kind))(images), model(images)
        usual = plain(images) - small_models.model(kind)(images)
    assert (logits - expected).norm() < 3 * usual.norm() + 0.02 * expected.norm()


@METHODS
def test_weights_that_are_not_finite_are_refused_by_the_tensors_name(name: str, tmp_path: Path) -> None:
    method, options, bits = RUNS[name]
    model = small_models.model("vit")
    with torch.no_grad():
        model.get_submodule("blocks.1.mlp.fc1").weight[0, 0] = float("nan")
    with pytest.raises(MethodInputError, match=r"blocks|not finite") as caught:
        method.quantize(given(model, tmp_path), Bits.parse(bits), options)
    assert "\n" not in str(caught.value)


@KINDS
def test_a_pruned_model_is_binarized_trained_and_packed_without_nan(kind: Kind, tmp_path: Path) -> None:
    options = binary_vit.Options(epochs=2, lr=1e-3)
    model = prune(small_models.model(kind))
    batches = [(small_models.images()[:8], torch.arange(8))] * 3
    done = binary_vit.quantize(given(model, tmp_path, training=lambda _: iter(batches)), Bits(1, 1), options)
    with torch.no_grad():
        assert torch.isfinite(done.model(small_models.images()[8:])).all()
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in done.details.model_dump()["training"])

"""BinaryViT as a method: what becomes binary, training, packing, saving, reloading, diagnostics, bad input."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from counting import account
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.base import Quantized
from vitq.methods.binary_vit import method as binary_vit
from vitq.methods.binary_vit import packed
from vitq.methods.binary_vit.layers import BinaryLinear, BinaryMatMul
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.registry import load
from vitq.methods.toolkit import saving
from vitq.subject import InputSpec, Subject

W1A1 = Bits(1, 1)
SHORT = binary_vit.Options(epochs=3, lr=3e-3, validate_every=2)
Pair = tuple[Tensor, Tensor]


def vit() -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(img_size=16, patch_size=4, num_classes=5, embed_dim=24, depth=2, num_heads=3).eval()


def swin() -> nn.Module:
    torch.manual_seed(0)
    return SwinTransformer(
        img_size=16, patch_size=2, num_classes=5, embed_dim=12, depths=(2, 2), num_heads=(2, 4), window_size=4
    ).eval()


MODELS = pytest.mark.parametrize("build", [vit, swin])


def batches(epoch: int, n: int = 4) -> Iterator[Pair]:
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(n):
        yield torch.randn(6, 3, 16, 16, generator=generator), torch.randint(5, (6,), generator=generator)


def job(model: nn.Module, folder: Path, seed: int = 0, **changes: object) -> Subject:
    made = Subject(
        model, W1A1, lambda: batches(99, 1), lambda m, b: m(b[0]), lambda o, b: F.cross_entropy(o, b[1]),
        lambda a, b: (a - b).abs().mean(), lambda s, t: F.cross_entropy(s, t.softmax(-1)),
        lambda x, _: (x, torch.zeros(len(x))), InputSpec((3, 16, 16), (0.5,) * 3, (0.5,) * 3),
        training=batches, validate=lambda _: {"top1": 50.0}, seed=seed, artifacts=folder,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def randomize(model: nn.Module) -> nn.Module:
    """Binarizers' parameters away from where they start, so that equality means something."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if name.endswith(("shift", "adapt", "log_scale")):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


@MODELS
def test_blocks_become_binary_and_ends_stay_in_floating_point(build: object) -> None:
    model = binary_vit.prepare(build(), W1A1, SHORT)
    left = {name for name, m in model.named_modules() if type(m) is nn.Linear}
    assert left == {"head"} if build is vit else left == {"head.fc"}
    assert type(model.patch_embed.proj) is nn.Conv2d
    assert sum(isinstance(m, BinaryLinear) for m in model.modules()) == (8 if build is vit else 17)
    assert sum(isinstance(m, BinaryMatMul) for m in model.modules()) == 2 * (2 if build is vit else 4)


@MODELS
def test_packed_model_equals_its_training_form_bit_for_bit(build: object) -> None:
    model = randomize(binary_vit.prepare(build(), W1A1, SHORT)).eval()
    x = next(batches(0))[0]
    with torch.no_grad():
        expected = model(x)
        small = packed.pack(copy.deepcopy(model))
        assert not any(isinstance(m, (BinaryLinear, BinaryMatMul)) for m in small.modules())
        for kernel in ("matmul", "popcount"):
            packed.set_kernel(small, kernel)
            assert torch.equal(small(x), expected)


@MODELS
@pytest.mark.slow
def test_the_whole_job_can_be_saved_and_reloaded_bit_for_bit(build: object, tmp_path: Path) -> None:
    done = binary_vit.quantize(job(build(), tmp_path), SHORT)
    x = next(batches(7))[0]
    assert done.exec == "xnor:torch"
    assert not (tmp_path / "training.pt").exists()
    file = saving.save(done, tmp_path / "model.safetensors", {})
    read = saving.fill(binary_vit.restore(build(), W1A1, SHORT, {}), file.path)
    with torch.no_grad():
        assert torch.equal(read(x), done.model(x))
    latent = sum(p.numel() for n, p in build().named_parameters() if "blocks" in n and n.endswith("weight")) * 4
    assert file.payload_bytes < latent
    details = done.details
    assert [row["epoch"] for row in details["training"]] == [0, 1, 2]
    assert ["top1" in row for row in details["training"]] == [False, True, True]
    assert details["flipped_share"] == [row["flipped_share"] for row in details["training"]]
    assert 0 < max(details["flipped_share"]) < 1
    for side in details["weights"].values():
        assert len(side["shares"]) <= 60
        assert sum(side["shares"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_same_seed_same_bits_and_a_resumed_run_too(tmp_path: Path) -> None:
    def run(folder: str, seed: int = 0, stop: int | None = None) -> dict[str, Tensor]:
        def validate(_: nn.Module) -> dict[str, float]:
            nonlocal stop
            stop = None if stop is None else stop - 1
            if stop == 0:
                raise KeyboardInterrupt
            return {}

        (tmp_path / folder).mkdir(exist_ok=True)
        options = binary_vit.Options(epochs=3, lr=3e-3, validate_every=1)
        return binary_vit.quantize(job(vit(), tmp_path / folder, seed, validate=validate), options).model.state_dict()

    first, second = run("a"), run("b")
    assert all(torch.equal(first[k], second[k]) for k in first)
    with pytest.raises(KeyboardInterrupt):
        run("c", stop=2)
    assert (tmp_path / "c" / "training.pt").exists()
    resumed = run("c")
    assert all(torch.equal(first[k], resumed[k]) for k in first)


def test_shift_is_what_moves_the_recorded_means(tmp_path: Path) -> None:
    options = binary_vit.Options(epochs=0, asm=False, grs=False)
    plain = binary_vit.quantize(job(vit(), tmp_path), options).details["activation_means"]
    assert all(row["before"] == row["after"] for row in plain["spread"].values())
    model = binary_vit.prepare(vit(), W1A1, SHORT)
    binary_vit.calibrate(model, job(vit(), tmp_path))
    for name, parameter in model.named_parameters():
        if name.endswith("adapt"):
            parameter.data.fill_(-1)
    moved = binary_vit._channel_means(model, job(vit(), tmp_path))
    assert all(row["after"] < 1e-4 < row["before"] for row in moved["spread"].values())
    assert len(moved["widest"]["before"]) == len(moved["widest"]["after"]) <= 512


def test_scales_start_from_the_first_calibration_batch(tmp_path: Path) -> None:
    model = binary_vit.prepare(vit(), W1A1, SHORT)
    seen: list[Tensor] = []
    model.blocks[0].attn.qkv.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    binary_vit.calibrate(model, job(vit(), tmp_path))
    assert model.blocks[0].attn.qkv.input.scale().item() == pytest.approx(seen[0].abs().mean().item(), rel=1e-5)
    assert model.blocks[1].attn.av.left.scale().item() == pytest.approx(2 / 17, rel=1e-4)


def test_deit_small_has_the_papers_size_and_operations() -> None:
    with torch.device("meta"):
        fp, model = (timm.create_model("deit_small_patch16_224") for _ in range(2))
    counted = account(fp, binary_vit.prepare(model, W1A1, binary_vit.Options()), (3, 224, 224), W1A1)
    sizes = counted.size.conventions
    assert counted.size.fp32_mb / sizes["no_block_bias_no_scale_no_position"] == pytest.approx(16.18, abs=0.005)
    assert counted.size.fp32_mb / sizes["every_parameter"] == pytest.approx(14.9, abs=0.05)
    assert counted.size.fp32_mb / counted.size.packed_mb == pytest.approx(13.66, abs=0.005)
    assert counted.operations.ops == pytest.approx(129.1e6, rel=1e-3)
    assert counted.operations.conventions["ops_ratio"] == pytest.approx(35.6, abs=0.05)
    assert counted.operations.conventions["ops_ratio_mixed_units"] == pytest.approx(17.8, abs=0.05)


def test_the_packed_model_is_counted_as_the_training_form() -> None:
    model = binary_vit.prepare(vit(), W1A1, SHORT)
    before = account(vit(), model, (3, 16, 16), W1A1)
    after = account(vit(), packed.pack(model), (3, 16, 16), W1A1)
    assert (before.size, before.operations) == (after.size, after.operations)


def test_the_card_has_every_option_with_its_default() -> None:
    method, card = load("binary_vit"), all_cards()["binary_vit"]
    assert {h.name: h.default for h in card.hyperparameters} == vars(method.Options())
    assert card.fidelity == "reconstruction"


def test_bad_input_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="W1A1 alone, not W4A4"):
        binary_vit.prepare(vit(), Bits(4, 4), SHORT)
    with pytest.raises(UnsupportedError, match="no attention"):
        binary_vit.prepare(nn.Sequential(nn.Linear(3, 3)), W1A1, SHORT)
    with pytest.raises(MethodInputError, match="no training data"):
        binary_vit.quantize(job(vit(), tmp_path, training=None), SHORT)
    with pytest.raises(MethodInputError, match="calibration set is empty"):
        binary_vit.quantize(job(vit(), tmp_path, calibration=lambda: iter([])), SHORT)


def test_what_is_not_finished_is_not_saved(tmp_path: Path) -> None:
    model = binary_vit.prepare(vit(), W1A1, SHORT)
    with pytest.raises(MethodInputError, match="save the finished model"):
        saving.save(Quantized(model), tmp_path / "model.safetensors", {})
    model.blocks[0].attn.qkv.input.calibrating = True
    with pytest.raises(MethodInputError, match="waits for its calibration batch"):
        saving.save(Quantized(packed.pack(model)), tmp_path / "model.safetensors", {})
    assert list(tmp_path.iterdir()) == []


def test_a_binarizer_that_calibration_does_not_reach_is_told(tmp_path: Path) -> None:
    model = binary_vit.prepare(vit(), W1A1, SHORT)
    with pytest.raises(MethodInputError, match="saw no tensor"):
        binary_vit.calibrate(model, job(vit(), tmp_path, forward=lambda m, b: m.patch_embed(b[0])))

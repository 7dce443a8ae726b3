"""I-ViT on the backbones of detectors and segmenters: several levels, any image size, integers up to the border."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dense_subjects as dense
import pytest
import torch
from i_vit_models import W8A8
from torch import Tensor

from vitq.errors import UnsupportedError
from vitq.methods.base import Quantized
from vitq.methods.i_vit import method as i_vit
from vitq.methods.i_vit.integer import integer
from vitq.methods.i_vit.linear import Linear
from vitq.methods.i_vit.mask import IntegerMask
from vitq.methods.i_vit.network import Network
from vitq.methods.toolkit import saving
from vitq.subject import part_of, put_part

ARITHMETICS = pytest.mark.parametrize("arithmetic", ["paper", "release"])
MODELS = pytest.mark.parametrize("name", dense.MODELS)
IMAGES = [dense.padded(dense.scenes(seed, n)) for seed, n in ((9, 2), (7, 1), (8, 1))]
"""Images of 64x64, of 40x52, which patches of 8 do not fill, and of 37x64, which patches of 4 do not."""


def quantized(name: str, folder: Path, **options: Any) -> Quantized:
    return i_vit.quantize(dense.subject(name, folder), W8A8, i_vit.Options(**{"epochs": 0} | options))


def backbone(model: Any) -> Any:
    return part_of(model, "backbone")


@MODELS
@ARITHMETICS
def test_every_level_is_near_the_real_one_at_every_image_size(name: str, arithmetic: str, tmp_path: Path) -> None:
    done, real = quantized(name, tmp_path, arithmetic=arithmetic), dense.make(name)
    assert done.exec == ("integer-only:torch" if arithmetic == "paper" else "fake-quant")
    for images in IMAGES:
        with torch.no_grad():
            got, want = backbone(done.model)(images), backbone(real)(images)
        assert [g.shape for g in got] == [w.shape for w in want]
        for g, w in zip(got, want, strict=True):
            assert (g - w).pow(2).mean() < 0.1 * w.var()


@MODELS
@pytest.mark.parametrize("options", [{"epochs": 1, "lr": 1e-3}, {"epochs": 1, "lr": 1e-3, "distill": True}])
@ARITHMETICS
def test_training_moves_the_backbone_alone(name: str, arithmetic: str, options: Any, tmp_path: Path) -> None:
    done = quantized(name, tmp_path, arithmetic=arithmetic, **options)
    assert isinstance(backbone(done.model), Network)
    assert dense.same_outside(done.model, dense.make(name))
    assert len(done.details.training) == 1
    untrained = quantized(name, tmp_path, arithmetic=arithmetic)
    outputs = [dense.digest(dense.forward(each.model, dense.scenes(5))) for each in (done, untrained)]
    assert outputs[0] != outputs[1]


@MODELS
def test_the_integer_form_is_the_training_form_at_every_image_size(name: str) -> None:
    network = i_vit.prepare(backbone(dense.make(name)), W8A8, i_vit.Options()).eval()
    subject = dense.subject(name)
    subject.put(network)
    i_vit.calibrate(network, subject)
    form = integer(network)
    for images in IMAGES:
        with torch.no_grad():
            left, right = network(images), form(images)
        assert len(left) == 2
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@MODELS
def test_the_integer_form_holds_integers_up_to_each_level(name: str, tmp_path: Path) -> None:
    form: Network = backbone(quantized(name, tmp_path).model)
    codes = torch.randint(-128, 128, (1, 3, 40, 52), dtype=torch.int8)
    normed = name != "vit_segmenter"
    assert {level.dtype for level in form.run_levels(codes)} == {torch.int8 if normed else torch.int32}
    assert not list(form.parameters())
    floating = {n for n, b in form.named_buffers() if b.is_floating_point()}
    assert floating == {"input.scale", "level0.scale", "level1.scale"}


@MODELS
@ARITHMETICS
def test_a_saved_model_comes_back(name: str, arithmetic: Any, tmp_path: Path) -> None:
    done, options = quantized(name, tmp_path, arithmetic=arithmetic), i_vit.Options(arithmetic=arithmetic, epochs=0)
    saving.save(done, tmp_path / "saved", {"scope": "backbone"})
    fresh = dense.make(name, seed=1)
    fresh.load_state_dict(
        {n: t for n, t in dense.make(name).state_dict().items() if not n.startswith("backbone")}, False
    )
    part = i_vit.restore(backbone(fresh), W8A8, options, saving.read_header(tmp_path / "saved")["facts"])
    again = saving.fill(put_part(fresh, "backbone", part), tmp_path / "saved")
    for seed in (5, 6, 7):
        digests = [dense.digest(dense.forward(m, dense.scenes(seed))) for m in (again, done.model)]
        assert digests[0] == digests[1]


def test_padding_of_windows_is_the_integer_zero(tmp_path: Path) -> None:
    """In the real function the pad is 0 after norm1: the places outside of the map hold the code 0."""
    form = backbone(quantized("detector", tmp_path).model)
    block = form.get_submodule(form.trunk[0])
    seen: list[Tensor] = []
    handle = block.get_submodule(block.steps["qkv"]).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        form(torch.randn(1, 3, 40, 52))
    handle.remove()
    height, width = 10, 13
    places = block.windows.split(torch.ones(1, height, width, 1, dtype=torch.int8))
    assert seen[0].dtype is torch.int8
    assert seen[0].shape[:2] == places.shape[:2] == (3 * 4, 16)
    assert bool((seen[0][places[..., 0] == 0] == 0).all())
    assert bool((seen[0][places[..., 0] == 1] != 0).any())


def test_the_mask_follows_the_size_of_each_feature_map(tmp_path: Path) -> None:
    form = backbone(quantized("detector", tmp_path).model)
    masks = [m for m in form.modules() if isinstance(m, IntegerMask)]
    assert len(masks) == 2
    for height, width, windows in ((16, 16, 16), (10, 13, 12)):
        logits = torch.zeros(windows, 2, 16, 16, dtype=torch.int8)
        masked = masks[0](logits, height, width)
        assert masked.shape == logits.shape
        assert set(masked.unique().tolist()) == {0, int(masks[0].code)}


def test_positions_of_other_image_sizes_are_integers_too(tmp_path: Path) -> None:
    form = backbone(quantized("vit_segmenter", tmp_path).model)
    add = form.get_submodule(form.steps["position_add"])
    native = add.arrange(add.codes, 8, 8)
    assert torch.equal(native, add.codes)
    other = add.arrange(add.codes, 5, 7)
    assert other.dtype is add.codes.dtype
    assert other.shape == (1, 1 + 5 * 7, 16)
    assert torch.equal(other[:, :1], add.codes[:, :1])


def test_products_keep_their_paths_and_counts_need_no_data() -> None:
    part = backbone(dense.make("detector").to("meta"))
    layers = {path for path, m in part.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))}
    with torch.device("meta"):
        network = i_vit.prepare(part, W8A8, i_vit.Options())
    assert {path for path, module in network.named_modules() if isinstance(module, Linear)} == layers


def test_a_level_backbone_that_is_called_by_its_features_says_so(tmp_path: Path) -> None:
    network = backbone(quantized("detector", tmp_path).model)
    with pytest.raises(UnsupportedError, match="several levels"):
        network.forward_features(IMAGES[0])

"""I-ViT on the backbone of a detector: in its place and called as it, everything around it as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import detector
import pytest
import torch
from i_vit_models import W8A8, batches, calibrated, swin, vit
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.explicit import make_explicit
from vitq.methods.base import Quantized
from vitq.methods.i_vit import method as i_vit
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.integer import integer
from vitq.methods.i_vit.network import Network
from vitq.methods.toolkit import saving
from vitq.methods.toolkit.stored import HasOperands
from vitq.subject import part_of, put_part

ARITHMETICS = pytest.mark.parametrize("arithmetic", ["paper", "release"])
BACKBONES = pytest.mark.parametrize("make", [lambda: vit(num_classes=0), lambda: swin(num_classes=0)])


def quantized(folder: Path, **options: Any) -> Quantized:
    subject = detector.subject(artifacts=folder)
    return i_vit.quantize(subject, W8A8, i_vit.Options(**{"epochs": 0} | options))


def outside(model: nn.Module) -> dict[str, Any]:
    """Class of every module and value of every tensor that the backbone does not hold."""
    kinds = {n: type(m) for n, m in model.named_modules() if n and not n.startswith("backbone")}
    return kinds | {n: t for n, t in model.state_dict().items() if not n.startswith("backbone")}


def same_outside(model: nn.Module) -> bool:
    got, want = outside(model), outside(detector.make_detector())
    equal = (torch.equal(got[n], want[n]) if isinstance(want[n], Tensor) else got[n] is want[n] for n in want)
    return got.keys() == want.keys() and all(equal)


@ARITHMETICS
@pytest.mark.parametrize("options", [{}, {"epochs": 1, "lr": 1e-4}, {"epochs": 1, "lr": 1e-4, "distill": True}])
def test_the_backbone_alone_is_quantized(arithmetic: str, options: dict[str, Any], tmp_path: Path) -> None:
    done = quantized(tmp_path, arithmetic=arithmetic, **options)
    assert isinstance(part_of(done.model, "backbone"), Network)
    assert same_outside(done.model)
    assert done.exec == ("integer-only:torch" if arithmetic == "paper" else "fake-quant")
    for batch in [*detector.calibration(), detector.example()]:
        with torch.no_grad():
            found = detector.forward(done.model, batch)
        assert len(found) == len(batch)
        assert all(bool(one["boxes"].isfinite().all()) for one in found)


@ARITHMETICS
def test_its_features_are_near_the_real_ones(arithmetic: str, tmp_path: Path) -> None:
    model, real = quantized(tmp_path, arithmetic=arithmetic).model, detector.make_detector()
    image = torch.randn(4, 3, detector.SIDE, detector.SIDE, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        got, want = (part_of(m, "backbone").forward_features(image) for m in (model, real))  # type: ignore[operator]
    assert got.shape == want.shape
    assert (got - want).pow(2).mean() < 0.05 * want.var()


@ARITHMETICS
def test_a_saved_detector_comes_back(arithmetic: str, tmp_path: Path) -> None:
    options = i_vit.Options(arithmetic=arithmetic, epochs=0)  # type: ignore[arg-type]
    done = i_vit.quantize(detector.subject(artifacts=tmp_path), W8A8, options)
    saving.save(done, tmp_path / "saved", {"scope": "backbone"})
    fresh = detector.make_detector(seed=1)
    part = i_vit.restore(part_of(fresh, "backbone"), W8A8, options, saving.read_header(tmp_path / "saved")["facts"])
    again = saving.fill(put_part(fresh, "backbone", part), tmp_path / "saved")
    for batch in detector.calibration():
        assert detector.digest(detector.forward(again, batch)) == detector.digest(detector.forward(done.model, batch))


def test_products_of_a_backbone_keep_their_paths() -> None:
    explicit = make_explicit(detector.make_detector().backbone)
    products = {
        name
        for name, m in explicit.named_modules()
        if isinstance(m, (nn.Linear, nn.Conv2d)) or name.endswith((".qk", ".av"))
    }
    with torch.device("meta"):
        prepared = i_vit.prepare(detector.Detector().backbone, W8A8, i_vit.Options())
    assert {name for name, m in prepared.named_modules() if isinstance(m, HasOperands)} == products


@BACKBONES
@ARITHMETICS
def test_a_backbone_is_called_as_the_librarys_is(make: Any, arithmetic: Any) -> None:
    network, images = calibrated(make(), Forms(arithmetic)), batches(1, 8, seed=3)[0][0]
    forms = [network, integer(network)] if arithmetic == "paper" else [network]
    with torch.no_grad():
        for called in ("forward_features", "forward"):
            want = getattr(make(), called)(images)
            got = [getattr(form, called)(images) for form in forms]
            assert got[0].shape == want.shape
            assert (got[0] - want).pow(2).mean() < 0.05 * want.var()
            assert all(torch.equal(got[0], other) for other in got)


@BACKBONES
def test_a_backbones_integer_form_holds_integers(make: Any) -> None:
    form = integer(calibrated(make(), Forms("paper")))
    codes = torch.randint(-128, 128, (2, 3, 16, 16), dtype=torch.int8)
    assert form.run(codes).dtype is torch.int8
    assert not list(form.parameters())
    floating = {n for n, b in form.named_buffers() if b.is_floating_point()}
    assert floating == {"input.scale", "output.scale"}


class Wrapped(nn.Module):
    """A model that calls its backbone in a way of its own."""

    def __init__(self, backbone: nn.Module, call: Any) -> None:
        super().__init__()
        self.backbone, self.call = backbone, call

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.call(self.backbone, images)
        return out


@pytest.mark.parametrize(
    ("call", "classes", "said"),
    [
        (lambda backbone, x: backbone.forward_intermediates(x), 0, "no 'forward_intermediates'"),
        (lambda backbone, x: backbone.norm(backbone.layers(backbone.patch_embed(x))), 0, "calls a part of it"),
        (lambda backbone, x: [stage(x) for stage in backbone.layers], 0, "calls a part of it"),
        (lambda backbone, x: backbone.layers[0](x), 0, "calls a part of it"),
        (lambda backbone, x: backbone.forward_features(x), 8, "with a classifier"),
    ],
)
def test_what_the_network_has_not_is_said_in_a_line(call: Any, classes: int, said: str, tmp_path: Path) -> None:
    data = batches(1)
    model = Wrapped(swin(num_classes=classes), call)
    words = {"forward": lambda m, b: m(b[0]), "calibration": lambda: iter(data), "artifacts": tmp_path}
    with pytest.raises(UnsupportedError, match=said) as error:
        i_vit.quantize(detector.subject(model, **words), W8A8, i_vit.Options(epochs=0))
    assert "\n" not in str(error.value)


def test_what_cannot_be_served_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="scope of 'backbone'"):
        i_vit.quantize(detector.subject(scope="model", artifacts=tmp_path), W8A8, i_vit.Options(epochs=0))
    with pytest.raises(UnsupportedError, match="whole transformer"):
        i_vit.quantize(detector.subject(scope="backbone.layers", artifacts=tmp_path), W8A8, i_vit.Options(epochs=0))
    with pytest.raises(UnsupportedError, match="register tokens"):
        Network(vit(reg_tokens=2), Forms())
    with pytest.raises(UnsupportedError, match="dynamic image size"):
        Network(swin(dynamic_img_size=True), Forms())
    with pytest.raises(UnsupportedError, match="norms within attention"):
        Network(vit(qk_norm=True), Forms())
    blank = detector.subject(
        Wrapped(swin(num_classes=0), lambda _, x: x), forward=lambda m, b: m(b), artifacts=tmp_path
    )
    with pytest.raises(MethodInputError, match="never called"):
        i_vit.quantize(blank, W8A8, i_vit.Options(epochs=0))


def test_a_backbone_pools_as_the_library_does_or_says_that_it_does_not() -> None:
    images = batches(1, 4, seed=3)[0][0]

    def backbone(**words: Any) -> VisionTransformer | SwinTransformer:
        return vit(num_classes=0, **words)

    bare = calibrated(backbone(global_pool=""), Forms())
    with torch.no_grad():
        assert torch.equal(bare(images), bare.forward_features(images))
    pooled = Network(backbone(global_pool="avg", class_token=False), Forms()).eval()
    copied = copy.deepcopy(pooled)
    with pytest.raises(MethodInputError, match="no range yet"):
        copied.forward_features(images)
    pooled.train().forward_features(images)
    with pytest.raises(UnsupportedError, match="does not pool"):
        pooled(images)

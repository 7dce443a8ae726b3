"""Models of mm's configurations: every entry is built as published, and the Swin authors' names are understood."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from vitq import digests, mm
from vitq.digests import file_sha256
from vitq.errors import BadInputError
from vitq.tasks import hub_pins, mm_models, swin_names, weight_files
from vitq.tasks.base import Places
from vitq.tasks.checkpoints import WeightsWarning
from vitq.tasks.names import Configured, model_entries, model_entry
from vitq.tasks.registry import load

pytestmark = pytest.mark.skipif(mm.why_absent() is not None, reason=str(mm.why_absent()))
ENTRIES = [name for name, entry in model_entries().items() if isinstance(entry.build, Configured)]
MILLIONS = {
    "mask_rcnn_swin_tiny.ms_3x": 48,
    "mask_rcnn_swin_small.ms_3x": 69,
    "cascade_mask_rcnn_swin_tiny.ms_3x": 86,
    "cascade_mask_rcnn_swin_small.ms_3x": 107,
    "cascade_mask_rcnn_swin_base.ms_3x": 145,
    "upernet_swin_tiny.ms_160k": 60,
    "upernet_swin_small.ms_160k": 81,
}
"""Parameters in millions by the READMEs of the Swin authors' two repositories."""
UPERNET = "upernet_swin_tiny.ms_160k"
AUXILIARY = 923_798
"""Parameters of UPerNet Swin-T's auxiliary head, which serves training alone: an FCN head, 384 to 256 channels."""


@pytest.mark.parametrize("name", ENTRIES)
def test_every_configuration_is_there_and_fetches_nothing(name: str) -> None:
    entry = model_entry(name)
    assert isinstance(entry.build, Configured)
    text = str(mm_models.config_of(entry.build))
    assert "init_cfg" not in text
    assert "SyncBN" not in text
    assert "pretrained'" not in text
    assert entry.preprocessing.input.size[0] == 3
    if not name.startswith("digits_"):
        assert entry.url
        assert entry.expected
        digits = re.search(r"-([0-9a-f]{8})\.pth$", entry.url)
        assert entry.sha256_prefix == (digits[1] if digits else None)


@pytest.mark.parametrize(
    "name", ["mask_rcnn_swin_tiny.ms_3x", "cascade_mask_rcnn_swin_tiny.ms_3x", "upernet_swin_tiny.ms_160k"]
)
def test_parameters_are_as_many_as_published(name: str) -> None:
    model = load(model_entry(name).task).build_model(name)
    beside = AUXILIARY if "upernet" in name else 0
    assert round((sum(p.numel() for p in model.parameters()) + beside) / 1e6) == MILLIONS[name]


def originals(model: SwinTransformer) -> dict[str, torch.Tensor]:
    """timm's weights under the names of the original release, where a stage ends with its merging."""

    def name(key: str) -> str:
        moved = re.match(r"layers\.(\d+)\.downsample\.(.*)", key)
        return f"layers.{int(moved[1]) - 1}.downsample.{moved[2]}" if moved else key

    return {f"backbone.{name(k)}": t for k, t in model.state_dict().items() if not k.startswith(("head", "norm."))}


def test_the_swin_authors_weights_give_the_same_features() -> None:
    torch.manual_seed(0)
    theirs = SwinTransformer(
        img_size=112, patch_size=4, window_size=7, embed_dim=24, depths=(2, 2), num_heads=(2, 4), num_classes=0
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    mm.prepare()
    from mmdet.models.backbones.swin import SwinTransformer as Ours

    ours = Ours(embed_dims=24, depths=(2, 2), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1))
    ours.eval()
    state = swin_names.converted({**originals(theirs), "neck.weight": torch.ones(1)})
    assert "neck.weight" in state
    given = {k.removeprefix("backbone."): t for k, t in state.items() if k.startswith("backbone.")}
    missing, unexpected = ours.load_state_dict(given, strict=False)
    assert unexpected == []
    assert all(re.match(r"norm[01]\.", key) or key.endswith("relative_position_index") for key in missing)
    images, seen = torch.randn(2, 3, 112, 112), []
    for stage in theirs.layers:
        stage.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        theirs.forward_features(images)
        found = ours(images)
    for one, other in zip(seen, found, strict=True):
        wanted = nn.functional.layer_norm(one, one.shape[-1:]).permute(0, 3, 1, 2)
        torch.testing.assert_close(other, wanted, rtol=1e-4, atol=1e-5)


def test_another_models_checkpoint_and_another_file_are_told(tmp_path) -> None:
    task, name = load("segmentation"), "upernet_deit_small.mmseg_160k"
    path = tmp_path / f"{name}.safetensors"
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(BadInputError, match=r"is 5110d916\.\.\. by its published name: fetch https"):
        task.load_model(name, Places(weights={"all": tmp_path}))
    with pytest.raises(BadInputError, match=r"5110d916"):  # as a run is planned
        weight_files.weights_identity(model_entry(name), Places(weights={"all": tmp_path}))
    assert weight_files.find(model_entry(name), Places(weights={"all": tmp_path})) == path
    assert weight_files.find(model_entry("upernet_swin_tiny.ms_160k"), Places(weights={"all": tmp_path})) is None


def test_a_file_may_have_its_published_name(tmp_path) -> None:
    entry = model_entry(UPERNET)
    with pytest.raises(BadInputError, match=r"fetch https://\S+window7_512x512\.pth and put it into"):
        weight_files.weights_identity(entry, Places(weights={"all": tmp_path}))
    path = tmp_path / "upernet_swin_tiny_patch4_window7_512x512.pth"
    path.touch()
    assert weight_files.find(entry, Places(weights={"all": tmp_path})) == path


def test_a_file_of_unknown_digest_is_taken_once_and_held_to(tmp_path, monkeypatch) -> None:
    """A PyTorch file needs the user's word; one that does not fit leaves no digest behind; a second one is refused."""
    monkeypatch.setenv("VITQ_CACHE", str(tmp_path / "cache"))
    entry, task = model_entry(UPERNET), load("segmentation")
    path = tmp_path / f"{UPERNET}.pth"
    places = Places(weights={UPERNET: path})
    trusted = replace(places, trust=True)
    torch.save({"state_dict": {"x": torch.ones(1)}}, path)
    with pytest.raises(BadInputError, match="run with --trust"):
        weight_files.weights_identity(entry, places)
    with pytest.raises(BadInputError, match="another model's weights"):
        task.load_model(UPERNET, trusted)
    assert hub_pins.pinned(entry) is None
    state = task.build_model(UPERNET).state_dict()
    beside = {"auxiliary_head.conv_seg.weight": torch.zeros(150, 256, 1, 1)}
    torch.save({"meta": {}, "state_dict": state | beside}, path)
    with pytest.warns(WeightsWarning, match="auxiliary_head serves training alone"):
        loaded = task.load_model(UPERNET, trusted)
    assert loaded.weights_sha256 == hub_pins.pinned(entry) == weight_files.weights_identity(entry, places)
    torch.save({"state_dict": {"x": torch.ones(2)}}, path)
    with pytest.raises(BadInputError, match="by its first reading"):
        weight_files.weights_identity(entry, trusted)


def test_the_content_of_a_file_decides_whether_it_needs_the_users_word(tmp_path, monkeypatch) -> None:
    """Not its name; a model of one's own needs it too, and keeps its safetensors free to change."""
    monkeypatch.setenv("VITQ_CACHE", str(tmp_path / "cache"))
    published = model_entry(UPERNET)
    own = published.model_copy(update={"name": "own", "url": None, "expected": {}})
    pickled, tensors = tmp_path / "w.safetensors", tmp_path / "w.pth"
    torch.save({"x": torch.ones(1)}, pickled)
    save_file({"x": torch.ones(1)}, tensors)
    for entry in (published, own):
        with pytest.raises(BadInputError, match=f"no sha256 is known for {re.escape(entry.name)}.* run with --trust"):
            weight_files.checked_sha256(pickled, entry, Places())
        assert weight_files.checked_sha256(pickled, entry, Places(trust=True)) == file_sha256(pickled)
        assert weight_files.checked_sha256(tensors, entry, Places()) == file_sha256(tensors)
    assert [weight_files.is_held(published, path) for path in (pickled, tensors)] == [True, True]
    assert [weight_files.is_held(own, path) for path in (pickled, tensors)] == [True, False]


def test_a_file_is_read_once_for_its_digest(tmp_path, monkeypatch) -> None:
    """At planning; what loads it later remembers, unless the file is so fresh that its times say too little."""
    monkeypatch.setenv("VITQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "FRESH_NS", 0)
    read, hashed = [], digests.hashlib.sha256
    monkeypatch.setattr(digests.hashlib, "sha256", lambda *a: read.append(1) or hashed(*a))
    path = tmp_path / f"{UPERNET}.safetensors"
    save_file({"x": torch.ones(1)}, path)
    entry, places = model_entry(UPERNET), Places(weights={"all": tmp_path})
    first = weight_files.weights_identity(entry, places)
    assert read == [1]
    with pytest.raises(BadInputError, match="another model's weights"):
        load("segmentation").load_model(UPERNET, places)
    assert weight_files.weights_identity(entry, places) == first
    assert read == [1]


CASCADES = ["tiny", "small", "base"]


@pytest.mark.parametrize("size", CASCADES)
def test_cascades_are_mmdets_base_with_our_changes(tmp_path, monkeypatch, size: str) -> None:
    """What mmengine itself merges where `_base_` names mmdet's file, by its place: no key is lost and none is added."""
    from mmengine.config import Config

    for name in CASCADES:
        text = mm_models.path_of(f"vitq::cascade_mask_rcnn_swin_{name}.py").read_text()
        start = 'starts_from = "mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py"'
        assert (start in text) == (name == "tiny")
        base = mm_models.path_of("mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py")
        (tmp_path / f"cascade_mask_rcnn_swin_{name}.py").write_text(text.replace(start, f"_base_ = [{str(base)!r}]"))
    theirs = Config.fromfile(str(tmp_path / f"cascade_mask_rcnn_swin_{size}.py")).model.to_dict()
    ours = mm_models.config_of(Configured(config=f"vitq::cascade_mask_rcnn_swin_{size}.py")).to_dict()
    assert ours == without_weights(theirs)
    assert ours["backbone"]["type"] == "SwinTransformer"
    assert "_delete_" not in str(ours)


def without_weights(node):
    """A configuration without what names weights to fetch."""
    if isinstance(node, dict):
        return {key: without_weights(each) for key, each in node.items() if key not in ("init_cfg", "pretrained")}
    return type(node)(map(without_weights, node)) if isinstance(node, (list, tuple)) else node


def test_a_pin_refuses_another_digest(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("VITQ_CACHE", str(tmp_path))
    entry = model_entry(UPERNET)
    hub_pins.pin(entry, "a" * 64)
    hub_pins.pin(entry, "a" * 64)
    with pytest.raises(BadInputError, match="have changed"):
        hub_pins.pin(entry, "b" * 64)

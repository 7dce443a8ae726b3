"""Models that vitq has never named: timm's by name, the hub's, checkpoints and files of one's own."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from vitq.benchmarks.plan.site import load_site
from vitq.benchmarks.run.messages import Order
from vitq.datasets import registry as data_registry
from vitq.errors import BadInputError
from vitq.tasks import hub, names
from vitq.tasks.base import Places
from vitq.tasks.models_file import load_models_file
from vitq.tasks.names import ModelEntry, Timm, model_entry, register, registered_models
from vitq.tasks.own_models import own_entry, timm_entry, timm_names
from vitq.tasks.registry import load
from vitq.tasks.weights import WeightsWarning

TASK = load("classification")
TINY = "vit_tiny_patch16_224"
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def forgets() -> Iterator[None]:
    """What a test registers, and what it says of the hub, is forgotten."""
    yield
    names.models().registered.clear()
    hub.allow(True)


@pytest.fixture(scope="module")
def seven() -> nn.Module:
    """A ViT-Tiny of seven classes for images of 64 pixels."""
    torch.manual_seed(0)
    return timm.create_model(TINY, num_classes=7, img_size=64).eval()


def loaded(path: Path, **given: Any) -> nn.Module:
    entry = own_entry("mine", TINY, weights=path, **given)
    register([entry])
    return TASK.load_model("mine", Places(weights={"mine": path}, hub=False)).model


# timm's names


def test_any_model_of_timms_is_known_with_timms_own_preprocessing() -> None:
    entry = model_entry("vit_base_patch16_clip_224.openai")
    how = entry.preprocessing
    assert (entry.paper_name, entry.build, entry.hub, entry.not_papers) == (None, None, True, "")
    assert (how.size, how.crop_pct, how.mean[0], how.interpolation) == ((3, 224, 224), 0.9, 0.48145466, "bicubic")
    assert model_entry("vit_so150m2_patch16_reg1_gap_448.sbb_e200_in12k_ft_in1k").preprocessing.crop_mode == "squash"


def test_ours_stay_the_papers_and_timms_says_where_it_differs() -> None:
    ours = model_entry("deit_tiny_patch16_224.fb_in1k")
    assert (ours.preprocessing.crop_pct, ours.not_papers) == (0.875, "")
    for name in ("deit_tiny_patch16_224", "deit_tiny_patch16_224.fb_in1k"):
        theirs = timm_entry(name)
        assert theirs.paper_name is None
        assert theirs.not_papers == (
            f"{name} has timm's preprocessing, which is not the papers': crop_pct 0.9 (the papers' 0.875)"
        )


def test_what_is_not_the_papers_is_warned_of_where_it_is_loaded(tmp_path: Path) -> None:
    save_file(timm.create_model("deit_tiny_patch16_224").state_dict(), tmp_path / "w.safetensors")
    with pytest.warns(WeightsWarning, match="which is not the papers'"):
        TASK.load_model("deit_tiny_patch16_224", Places(weights={"deit_tiny_patch16_224": tmp_path / "w.safetensors"}))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("vit_smal_patch14_dinov2", "no model is called 'vit_smal_patch14_dinov2'; did you mean 'vit_small_patch14"),
        ("digits_vitt", "did you mean 'digits_vit'"),
        (
            "deit_tiny_patch16_224.fb_in2k",
            "timm's deit_tiny_patch16_224 has no weights with the tag",
        ),
        ("zzz", "known: "),
    ],
)
def test_a_typo_is_answered_with_the_nearest_of_ours_and_of_timms(name: str, line: str) -> None:
    with pytest.raises(BadInputError) as told:
        model_entry(name)
    assert line in str(told.value)
    assert not names.is_model(name)


def test_arguments_that_the_class_refuses_are_told() -> None:
    with pytest.raises(BadInputError, match=r"timm cannot build .*unexpected keyword argument 'depht'"):
        timm_entry(TINY, depht=3)
    assert timm_entry("convnext_atto", img_size=96).build == Timm(timm="convnext_atto")  # takes images of any size
    assert timm_entry("convnext_atto", img_size=96).preprocessing.size == (3, 96, 96)
    assert timm_entry(TINY, num_classes=7).hub is False


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_every_name_of_timms_has_an_entry_that_can_be_kept(number: int) -> None:
    name = timm_names()[number % len(timm_names())]
    entry = model_entry(name)
    assert entry.name == name
    assert ModelEntry.model_validate_json(entry.model_dump_json(by_alias=True)) == entry
    assert pickle.loads(pickle.dumps(entry)) == entry


# registering


def test_what_is_registered_is_known_and_told_to_workers() -> None:
    entry = own_entry("mine", TINY, num_classes=7)
    register([entry, entry])
    assert model_entry("mine") == entry
    assert "mine" in names.model_names()
    assert registered_models() == (entry,)
    assert Order.__dataclass_fields__["models"].default_factory() == (entry,)  # type: ignore[misc]
    assert Order.__dataclass_fields__["datasets"].default_factory() == data_registry.registered_datasets()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("digits_vit", "the model 'digits_vit' is vitq's already: give yours another name"),
        ("mine", "two models are called 'mine', and are not the same: give one another name"),
    ],
)
def test_a_name_that_is_taken_is_refused(name: str, line: str) -> None:
    register([own_entry("mine", TINY, num_classes=7)])
    with pytest.raises(BadInputError) as told:
        register([own_entry(name, TINY, num_classes=8)])
    assert str(told.value) == line


# checkpoints


WRAPPED: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 3},
    "state_dict": lambda state: {"state_dict": state},
    "model_state": lambda state: {"model_state": state},
    "module.": lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    "beside its average": lambda state: {"model": state, "model_ema": {n: t + 1 for n, t in state.items()}},
}
AVERAGED: dict[str, Callable[[State], Any]] = {
    "model_ema": lambda state: {"model_ema": state},
    "state_dict_ema": lambda state: {"state_dict_ema": state},
}


@pytest.mark.filterwarnings("ignore::vitq.tasks.weights.WeightsWarning")
@pytest.mark.parametrize("how", [*WRAPPED, *AVERAGED])
@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_a_checkpoint_tells_its_classes_and_size_whatever_it_is_wrapped_in(
    seven: nn.Module, tmp_path: Path, how: str, suffix: str
) -> None:
    path = tmp_path / f"w{suffix}"
    torch.save((WRAPPED | AVERAGED)[how](seven.state_dict()), path)
    model = loaded(path)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(image), seven(image))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_and_said(seven: nn.Module, tmp_path: Path, kind: torch.dtype) -> None:
    path = tmp_path / "w.safetensors"
    save_file({name: tensor.to(kind) for name, tensor in seven.state_dict().items()}, path)
    with pytest.warns(WeightsWarning, match="and were widened to float32"):
        model = loaded(path)
    assert torch.equal(model.head.weight, seven.head.weight.to(kind).float())  # type: ignore[union-attr, operator]


def test_positions_are_resampled_for_a_size_that_is_asked_for(seven: nn.Module, tmp_path: Path) -> None:
    save_file(seven.state_dict(), tmp_path / "w.safetensors")
    with pytest.warns(WeightsWarning, match=r"resampled by timm .*pos_embed from \(1, 17, 192\) to \(1, 37, 192\)"):
        model = loaded(tmp_path / "w.safetensors", img_size=96)
    assert model.pos_embed.shape == (1, 37, 192)  # type: ignore[union-attr]
    assert torch.equal(model.blocks[0].attn.qkv.weight, seven.blocks[0].attn.qkv.weight)  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("architecture", "given", "words"),
    [
        ("vit_small_patch16_224", {}, ["tensors are of another shape (cls_token is (1, 1, 192) where (1, 1, 384)"]),
        (TINY, {"num_classes": 9}, ["2 tensors are of another shape (head.weight is (7, 192) where (9, 192)"]),
        ("swin_tiny_patch4_window7_224", {}, ["are missing (", "146 tensors are not in that model ("]),
        ("deit_tiny_distilled_patch16_224", {}, ["3 tensors are missing (dist_token, head_dist.weight,"]),
        ("vit_base_patch32_224", {}, ["patch_embed.proj.weight is (192, 3, 16, 16) where (768, 3, 32, 32) is wanted"]),
    ],
)
def test_another_architecture_is_told_which_tensors_do_not_fit(
    seven: nn.Module, tmp_path: Path, architecture: str, given: dict[str, int], words: list[str]
) -> None:
    save_file(seven.state_dict(), tmp_path / "w.safetensors")
    register([own_entry("mine", architecture, weights=tmp_path / "w.safetensors", **given)])
    with pytest.raises(BadInputError) as told:
        TASK.load_model("mine", Places(weights={"mine": tmp_path / "w.safetensors"}))
    assert "\n" not in str(told.value)
    assert all(word in str(told.value) for word in words), str(told.value)


def test_a_checkpoint_of_another_size_is_not_resampled_unasked(seven: nn.Module, tmp_path: Path) -> None:
    """The size of a model that timm or vitq names is its own."""
    save_file({**seven.state_dict()}, tmp_path / "w.safetensors")
    register([own_entry("mine", TINY, num_classes=7)])
    with pytest.raises(BadInputError, match=r"tensor pos_embed is \(1, 17, 192\) where \(1, 197, 192\) is wanted"):
        TASK.load_model("mine", Places(weights={"mine": tmp_path / "w.safetensors"}))


def test_a_distilled_deit_loads_with_both_heads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=5, img_size=32).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    entry = own_entry("twins", "deit_tiny_distilled_patch16_224", weights=tmp_path / "w.safetensors")
    register([entry])
    assert (entry.build.args, entry.preprocessing.size) == ({"num_classes": 5, "img_size": 32}, (3, 32, 32))  # type: ignore[union-attr]
    again = TASK.load_model("twins", Places(weights={"twins": tmp_path / "w.safetensors"})).model
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(image), model(image))


def test_a_backbone_without_a_classifier_is_one_and_cannot_be_evaluated(seven: nn.Module, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in seven.state_dict().items() if not name.startswith("head")}
    save_file(state, tmp_path / "w.safetensors")
    register([own_entry("mine", TINY, weights=tmp_path / "w.safetensors")])
    done = TASK.load_model("mine", Places(weights={"mine": tmp_path / "w.safetensors"}))
    with pytest.raises(BadInputError, match="model mine has no classifier"):
        TASK.open_data("digits", done, Places(), limit=10, seed=0, calibration={"images": 4})


# files of models


def models_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return path


def test_a_models_file_in_few_words_and_in_full(seven: nn.Module, tmp_path: Path) -> None:
    save_file(seven.state_dict(), tmp_path / "seven.safetensors")
    known = load_models_file(
        models_file(
            tmp_path,
            f"- name: seven\n  architecture: {TINY}\n  weights: seven.safetensors\n"
            "- name: big\n"
            "  preprocessing: { size: [3, 224, 224], mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] }\n"
            "  build: { timm: vit_large_patch16_224, args: { num_classes: 7 } }\n",
        )
    )
    small, big = known.entries
    assert small.build == Timm(timm=TINY, args={"num_classes": 7, "img_size": 64})
    assert big.build == Timm(timm="vit_large_patch16_224", args={"num_classes": 7})
    assert known.weights == {"seven": (tmp_path / "seven.safetensors").resolve()}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"- name: a\n  archtecture: {TINY}\n", "line 2: unknown key 'archtecture'; did you mean 'architecture'"),
        ("- name: a\n  architecture: vit_tny_patch16_224\n", "line 2: no model is called 'vit_tny_patch16_224'; did"),
        (f"- name: a\n  architecture: {TINY}\n  weights: no.pt\n", "line 3: no weights file is at "),
        (f"- name: a\n  architecture: {TINY}\n  num_classes: many\n", "line 3: num_classes: Input should be a valid"),
        (f"- name: a\n  architecture: {TINY}\n  args: {{depht: 3}}\n", "line 2: timm cannot build"),
        (f"- {{name: a, architecture: {TINY}}}\n- {{name: a, architecture: {TINY}}}\n", "line 2: the model 'a' was"),
        ("a: 3\n", "is no models file: it must be a list of entries, each with a name"),
        ("- name: [\n", "is not YAML"),
        ("- name: a\n  build: { timm: x }\n", "line 1: preprocessing: Field required"),
    ],
)
def test_what_is_wrong_in_a_models_file_is_told_with_its_line(tmp_path: Path, text: str, line: str) -> None:
    path = models_file(tmp_path, text)
    with pytest.raises(BadInputError) as told:
        load_models_file(path)
    assert str(told.value).startswith(f"{path} ")
    assert line in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("listed", ['"models.yaml"', '["models.yaml"]'])
def test_a_site_file_names_models_files(seven: nn.Module, tmp_path: Path, listed: str) -> None:
    save_file(seven.state_dict(), tmp_path / "seven.safetensors")
    models_file(tmp_path, f"- name: seven\n  architecture: {TINY}\n  weights: seven.safetensors\n")
    (tmp_path / "site.toml").write_text(f"models = {listed}\n")
    site = load_site(tmp_path / "site.toml")
    assert model_entry("seven").preprocessing.size == (3, 64, 64)
    assert TASK.load_model("seven", site.places()).model.num_classes == 7  # type: ignore[union-attr]


def test_a_site_file_may_name_any_model_of_timms_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"x")
    (tmp_path / "site.toml").write_text('[weights]\n"vit_small_patch16_224.augreg_in1k" = "w.safetensors"\n')
    assert "vit_small_patch16_224.augreg_in1k" in load_site(tmp_path / "site.toml").weights
    (tmp_path / "site.toml").write_text('[weights]\n"vit_smal_patch14_dinov2" = "w.safetensors"\n')
    with pytest.raises(BadInputError, match="did you mean 'vit_small_patch14_dinov2'"):
        load_site(tmp_path / "site.toml")


# the hub


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model of the hub whose configuration is in the cache, as after an earlier download."""
    config = {
        "architecture": TINY, "num_classes": 7, "num_features": 192,
        "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0,
                           "interpolation": "bilinear", "num_classes": 7, "classifier": "head"},
        "model_args": {"img_size": 64},
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(path))
    monkeypatch.setattr("timm.models._hub.download_from_hf", lambda *_, **__: str(path))
    return "hf-hub:someone/seven"


def test_a_model_of_the_hub_is_described_by_its_own_configuration(cached: str) -> None:
    entry = model_entry(cached)
    assert entry.build == Timm(timm=TINY, args={"img_size": 64, "num_classes": 7})
    assert (entry.preprocessing.size, entry.preprocessing.interpolation) == ((3, 64, 64), "bilinear")
    assert (entry.hub, entry.paper_name) == (True, None)
    assert TASK.build_entry(entry).num_classes == 7


def test_a_hub_that_cannot_be_reached_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
    with pytest.raises(BadInputError) as told:
        model_entry("hf-hub:someone/else")
    assert str(told.value) == "hf-hub:someone/else could not be read from the hub (OSError: no route)"


def test_a_site_file_forbids_the_hub(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("hub = false\n")
    load_site(tmp_path / "site.toml")
    with pytest.raises(BadInputError, match="hf-hub:a/b is known to the hub alone, which hub = false of the site file"):
        model_entry("hf-hub:a/b")

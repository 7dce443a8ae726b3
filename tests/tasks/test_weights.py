"""Weights: found where the site file says, read safely, and refused when they are another model's."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitq.digests import file_sha256
from vitq.tasks import registry, weights
from vitq.tasks.base import BadInputError, Places
from vitq.tasks.names import model_entry

TASK = registry.load("classification")
DEIT = "deit_tiny_patch16_224.fb_in1k"


def refused(name: str, places: Places) -> str:
    with pytest.raises(BadInputError) as error:
        TASK.load_model(name, places)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def deit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / f"{DEIT}.safetensors"
    save_file(TASK.build_model(DEIT).state_dict(), path)
    return path


@pytest.mark.parametrize("name", ["digits_vit", "digits_swin"])
def test_packaged_weights_load_and_match_their_card(name: str) -> None:
    loaded = TASK.load_model(name, Places(hub=False))
    assert loaded.weights_sha256 == model_entry(name).sha256
    assert not loaded.model.training
    assert loaded.preprocessing.size == (3, 24, 24)


def test_swin_really_shifts_a_window() -> None:
    model = TASK.build_model("digits_swin")
    shifts = [block.shift_size for stage in model.layers for block in stage.blocks]  # type: ignore[union-attr]
    assert len(model.layers) >= 2  # type: ignore[arg-type]
    assert any(min(shift) > 0 for shift in shifts)


def test_a_file_is_found_by_folder_by_name_and_by_model_folder(deit: Path) -> None:
    for weights_at in ({"any": deit.parent}, {DEIT: deit}, {DEIT: deit.parent}):
        loaded = TASK.load_model(DEIT, Places(weights=weights_at, hub=False))
        assert loaded.weights_sha256 == file_sha256(deit)
        assert loaded.preprocessing.crop_pct == 0.875


def test_a_checkpoint_of_the_original_release_loads(deit: Path, tmp_path: Path) -> None:
    torch.save({"model": load_file(deit), "epoch": 3}, tmp_path / f"{DEIT}.pth")
    loaded = TASK.load_model(DEIT, Places(weights={"w": tmp_path}, hub=False))
    assert torch.equal(loaded.model.state_dict()["head.bias"], load_file(deit)["head.bias"])


def test_swin_names_of_the_original_release_are_understood() -> None:
    model, other = TASK.build_model("digits_swin"), TASK.build_model("digits_swin")
    old = {}
    for key, tensor in model.state_dict().items():
        parts = key.replace("head.fc.", "head.").split(".")
        if parts[2:3] == ["downsample"]:
            parts[1] = str(int(parts[1]) - 1)
        old[".".join(parts)] = tensor
    old["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    weights.put(old, other, "file", "digits_swin")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_without_weights_the_wanted_file_is_named(tmp_path: Path) -> None:
    message = refused(DEIT, Places(weights={"here": tmp_path}, hub=False))
    assert f"{DEIT}.safetensors" in message
    assert str(tmp_path) in message
    assert "hub" in refused("vit_tiny_patch16_224", Places())
    assert str(tmp_path / "gone.safetensors") in refused(DEIT, Places(weights={DEIT: tmp_path / "gone.safetensors"}))


def test_weights_of_another_model_name_the_first_tensor_that_does_not_fit(deit: Path) -> None:
    other = "vit_small_patch16_224.augreg_in21k_ft_in1k"
    assert "cls_token is (1, 1, 192) where (1, 1, 384) is wanted" in refused(other, Places(weights={other: deit}))
    swin = "swin_tiny_patch4_window7_224.ms_in1k"
    assert "patch_embed.proj.weight is (192, 3, 16, 16)" in refused(swin, Places(weights={swin: deit}))


def test_a_missing_tensor_is_named(deit: Path, tmp_path: Path) -> None:
    save_file({k: t for k, t in load_file(deit).items() if k != "norm.bias"}, tmp_path / "w.safetensors")
    assert "norm.bias is missing" in refused(DEIT, Places(weights={DEIT: tmp_path / "w.safetensors"}))


def test_an_unexpected_tensor_is_named(deit: Path, tmp_path: Path) -> None:
    state = load_file(deit) | {"head_dist.weight": torch.zeros(2)}
    save_file(state, tmp_path / "w.safetensors")
    assert "head_dist.weight is not in that model" in refused(DEIT, Places(weights={DEIT: tmp_path / "w.safetensors"}))


def test_values_that_are_not_finite_are_refused(deit: Path, tmp_path: Path) -> None:
    state = load_file(deit)
    state["norm.bias"][3] = float("nan")
    save_file(state, tmp_path / "w.safetensors")
    assert "norm.bias" in refused(DEIT, Places(weights={DEIT: tmp_path / "w.safetensors"}))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_is_refused(deit: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(load_file(deit), path)
    else:
        path.write_bytes(deit.read_bytes())
    path.write_bytes(path.read_bytes()[:100_000])
    assert f"{path} cannot be read" in refused(DEIT, Places(weights={DEIT: path}))


@dataclass
class _Evil:
    """Unpickling it would make a folder."""

    path: str

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    path, made = tmp_path / "w.pth", tmp_path / "made"
    torch.save({"model": _Evil(str(made))}, path)
    assert "cannot be read" in refused(DEIT, Places(weights={DEIT: path}))
    path.write_bytes(pickle.dumps(_Evil(str(made))))
    assert "cannot be read" in refused(DEIT, Places(weights={DEIT: path}))
    assert not made.exists()


def test_a_changed_file_is_not_the_pinned_one(tmp_path: Path) -> None:
    state = TASK.load_model("digits_vit", Places()).model.state_dict()
    state["head.bias"][0] += 1
    save_file(state, tmp_path / "digits_vit.safetensors")
    assert "by the table of models" in refused("digits_vit", Places(weights={"w": tmp_path}))


def test_a_hub_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
    message = refused(DEIT, Places())
    assert "no route" in message
    assert f"{DEIT}.safetensors" in message

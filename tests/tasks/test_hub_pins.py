"""Weights from the hub: the first ones read are the ones that stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from vitq.errors import BadInputError
from vitq.tasks import hub_pins, registry
from vitq.tasks.base import Places
from vitq.tasks.names import model_entry
from vitq.tasks.weight_files import weights_identity

TASK = registry.load("classification")
DEIT = "deit_tiny_patch16_224.fb_in1k"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, int]:
    """A hub that serves tiny models whose weights are drawn with `seed`, and a cache folder of its own."""
    asked = {"seed": 0, "times": 0}

    def create(name: str, pretrained: bool) -> torch.nn.Module:
        assert pretrained
        asked["times"] += 1
        torch.manual_seed(asked["seed"])
        return torch.nn.Linear(2, 2)

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr("vitq.tasks.hub.reach", lambda *_: None)
    monkeypatch.setenv("VITQ_CACHE", str(tmp_path / "cache"))
    return asked


def test_the_first_weights_read_are_recorded_and_later_ones_held_to_them(hub: dict[str, int], tmp_path: Path) -> None:
    first = TASK.load_model(DEIT, Places()).weights_sha256
    assert json.loads((tmp_path / "cache" / "hub_weights.json").read_text()) == {DEIT: first}
    assert TASK.load_model(DEIT, Places()).weights_sha256 == first
    hub["seed"] = 1
    with pytest.raises(BadInputError, match="have changed") as error:
        TASK.load_model(DEIT, Places())
    assert "\n" not in str(error.value)


def test_the_identity_is_of_the_tensors_and_asks_the_hub_once(hub: dict[str, int]) -> None:
    first = weights_identity(model_entry(DEIT), Places())
    assert len(first) == 64
    assert weights_identity(model_entry(DEIT), Places()) == first
    assert hub["times"] == 1


def test_the_table_of_models_comes_first(hub: dict[str, int], tmp_path: Path) -> None:
    entry = model_entry(DEIT).model_copy(update={"tensors_sha256": "0" * 64})
    hub_pins.pin(entry, "0" * 64)
    with pytest.raises(BadInputError, match="table of models"):
        hub_pins.pin(entry, "1" * 64)
    assert not (tmp_path / "cache" / "hub_weights.json").exists()


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"a": 1}', '{"a": "xyz"}', "\xff"])
def test_a_damaged_file_of_pins_stops(hub: dict[str, int], tmp_path: Path, text: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "hub_weights.json").write_text(text, encoding="latin-1")
    with pytest.raises(BadInputError, match="damaged"):
        TASK.load_model(DEIT, Places())


def test_pins_that_cannot_be_kept_stop(hub: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(BadInputError, match="VITQ_CACHE"):
        TASK.load_model(DEIT, Places())

"""The script that made the packaged weights: the same seed gives the same file, and a card that fits it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch
import yaml

from vitq.benchmarks import train_digits
from vitq.datasets import digit_distortion
from vitq.tasks import names
from vitq.tasks.names import WeightsCard


@pytest.mark.slow
def test_training_twice_gives_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    for run in ("one", "two"):
        command = ["train_digits", "--model", "digits_swin", "--epochs", "1", "--out", str(tmp_path / run)]
        monkeypatch.setattr(sys, "argv", command)
        try:
            train_digits.main()
        finally:
            torch.set_num_threads(threads)
    one, two = ((tmp_path / run / "digits_swin.safetensors").read_bytes() for run in ("one", "two"))
    assert one == two
    card = WeightsCard.model_validate(yaml.safe_load((tmp_path / "one" / "digits_swin.yaml").read_text()))
    assert card.sha256 == hashlib.sha256(one).hexdigest()
    assert card.recipe["epochs"] == 1
    assert card.validation.n == 600


@pytest.mark.parametrize("name", list(train_digits.RECIPES))
def test_the_packaged_weights_are_of_this_recipe(name: str) -> None:
    card, recipe = names.card(name), vars(train_digits.RECIPES[name])
    assert {key: card.recipe[key] for key in ("epochs", "lr", "weight_decay")} == {
        key: recipe[key] for key in ("epochs", "lr", "weight_decay")
    }
    assert (card.seed, card.recipe["batch"]) == (train_digits.SEED, train_digits.BATCH)
    assert card.augmentation == " ".join((digit_distortion.distort.__doc__ or "").split())
    assert card.rescaled == " ".join((train_digits.make_uneven.__doc__ or "").split())
    assert card.data["sha256"] == train_digits.digit_scans.sha256()

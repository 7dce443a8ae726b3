"""The script that trains the scenes' models: losses that can be stepped on, and cards that can be read back."""

from __future__ import annotations

import hashlib
from itertools import islice

import pytest
import torch

from vitq.benchmarks import train_scenes
from vitq.mm import why_absent
from vitq.tasks import registry
from vitq.tasks.base import Measured, Places
from vitq.tasks.names import WeightsCard, model_entry


@pytest.mark.skipif(why_absent() is not None, reason="the mm stack is not installed")
@pytest.mark.parametrize("name", ["digits_mask_rcnn", "digits_mask_rcnn_vit", "digits_mask_rcnn_deep"])
def test_two_steps_change_the_weights(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    task = registry.load("detection")
    loaded = train_scenes.start(name, tmp_path_factory.mktemp("out"), task)
    data = task.open_data("digit-scenes", loaded, Places(), limit=2, seed=0, calibration={"train_batch": 2})
    assert data.training is not None
    model, before = loaded.model.train(), [p.detach().clone() for p in loaded.model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for batch in islice(data.training(0), 2):
        optimizer.zero_grad()
        loss = train_scenes.loss("detection", model, batch)
        assert loss.isfinite()
        loss.backward()
        optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.skipif(why_absent() is not None, reason="the mm stack is not installed")
@pytest.mark.parametrize(
    ("name", "metric"),
    [("digits_mask_rcnn", "box_ap"), ("digits_upernet_swin", "miou"), ("digits_upernet_vit", "miou")],
)
def test_a_card_is_read_back(name: str, metric: str) -> None:
    measured = {metric: Measured(61.5, 128, 1.25)}
    card = WeightsCard.model_validate(train_scenes.card_of(name, b"abc", 7, train_scenes.RECIPES[name], measured))
    assert (card.model, card.bytes, card.params) == (name, 3, 7)
    assert card.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert card.validation.metrics == {metric: 61.5}
    assert card.validation.stderr == {metric: 1.25}
    assert card.validation.n == 128


def test_the_digits_cards_are_still_read() -> None:
    assert set(model_entry("digits_vit").expected["digits"]) == {"top1"}

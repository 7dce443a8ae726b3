"""Channels made uneven after LayerNorm: outputs stay, the spread grows, every norm that feeds a layer has it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vitq.benchmarks import uneven_channels
from vitq.tasks import names
from vitq.tasks.classification import TASK

PAIRS = {
    "digits_vit": [f"blocks.{i}.norm{k}" for i in range(4) for k in (1, 2)] + ["norm"],
    "digits_swin": [f"layers.{s}.blocks.{i}.norm{k}" for s in (0, 1) for i in (0, 1) for k in (1, 2)]
    + ["layers.1.downsample.norm", "norm"],
}


def model(name: str) -> nn.Module:
    """With weights, norms included, drawn anew."""
    torch.manual_seed(0)
    built = TASK.build_model(name)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1 + (parameter.ndim == 1) * 0.5)
    return built


@pytest.mark.parametrize("name", PAIRS)
def test_every_norm_that_feeds_a_layer_is_a_pair(name: str) -> None:
    assert sorted(path for path, _, _ in uneven_channels.pairs(model(name))) == sorted(PAIRS[name])


@pytest.mark.parametrize("name", PAIRS)
def test_outputs_stay_and_channels_spread(name: str) -> None:
    before, images = model(name), torch.randn(4, 3, 24, 24)
    after = copy.deepcopy(before)
    uneven_channels.make_uneven(after, 0)
    with torch.no_grad():
        expected, got = before.double()(images.double()), after.double()(images.double())
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    plain, uneven = (uneven_channels.unevenness(each.float(), images) for each in (before, after))
    assert uneven.widest > plain.widest * 1.5
    assert uneven.grid_loss < plain.grid_loss - 1
    for (_, first, _), (_, second, _) in zip(uneven_channels.pairs(before), uneven_channels.pairs(after), strict=True):
        moved = (first.weight / second.weight).detach()
        assert moved.unique().numel() > 0.9 * moved.numel()
        assert 0.0999 < float(moved.min()) < float(moved.max()) < 10.001


def test_the_seed_decides() -> None:
    one, same, other = (model("digits_vit") for _ in range(3))
    for each, seed in ((one, 0), (same, 0), (other, 1)):
        uneven_channels.make_uneven(each, seed)
    assert torch.equal(one.norm.weight, same.norm.weight)  # type: ignore[union-attr, arg-type]
    assert not torch.equal(one.norm.weight, other.norm.weight)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("outputs", "widest"), [([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], 1.0), ([[0, 0, 0], [1, 2, 8]], 4)]
)
def test_the_widest_channel_is_measured_in_median_ones(outputs: list[list[float]], widest: float) -> None:
    class Rows(nn.Module):
        """A norm whose output is given, and the layer that it feeds."""

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.LayerNorm(3), nn.Linear(3, 1)
            self.norm.forward = lambda _: torch.tensor(outputs).float()  # type: ignore[method-assign]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.head(self.norm(x))
            return y

    assert uneven_channels.unevenness(Rows(), torch.zeros(2, 3)).widest == pytest.approx(widest)


@pytest.mark.parametrize("name", PAIRS)
def test_the_packaged_models_are_as_their_cards_say(name: str) -> None:
    from vitq.tasks.base import Places

    loaded = TASK.load_model(name, Places(hub=False))
    data = TASK.open_data("digits", loaded, Places(), limit=None, seed=0, calibration={})
    found, card = uneven_channels.unevenness(loaded.model, next(data.calibration())[0]), names.card(name)
    assert found.widest == pytest.approx(card.unevenness["rescaled"]["widest"], abs=0.02)
    assert found.grid_loss == pytest.approx(card.unevenness["rescaled"]["grid_loss"], abs=0.02)
    assert found.widest > 2 > card.unevenness["trained"]["widest"]

"""Cards agree with their modules: names, options, defaults, refusals."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from typing import Any, get_args, get_type_hints

import pytest

from vitq.methods.bits import Bits
from vitq.methods.cards import Card, all_cards
from vitq.methods.registry import UnknownMethodError, load

WITH_MODULE = [name for name in all_cards() if find_spec(f"vitq.methods.{name}")]


def test_every_card_has_a_module() -> None:
    assert sorted(WITH_MODULE) == sorted(all_cards())


@pytest.mark.parametrize("name", WITH_MODULE)
def test_hyperparameters_are_the_options(name: str) -> None:
    card, options = all_cards()[name], load(name).Options
    assert dataclasses.is_dataclass(options)
    hints = get_type_hints(options)
    assert {h.name: h.default for h in card.hyperparameters} == {
        f.name: _plain(getattr(options(), f.name)) for f in dataclasses.fields(options)
    }
    for parameter in card.hyperparameters:
        choices = get_args(hints[parameter.name])
        if choices and all(isinstance(c, str) for c in choices):
            assert set(parameter.choices or ()) == set(choices), parameter.name
        assert parameter.source


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", WITH_MODULE)
def test_the_module_refuses_what_the_card_refuses(name: str) -> None:
    card, method = all_cards()[name], load(name)
    for text in ("FP32", "W8A8", "W4A4", "W1A1"):
        bits = Bits.parse(text)
        if card.supports.refuses(bits):
            assert method.unsupported(bits, method.Options())


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownMethodError, match="repq_vit"):
        load("repq_vitt")


def test_a_card_says_where_its_fidelity_lies() -> None:
    for card in all_cards().values():
        assert isinstance(card, Card)
        assert card.fidelity == "baseline" or card.arxiv, f"{card.name} names no paper"


def test_a_card_says_what_was_compared_with_released_code() -> None:
    """Reconstructions say that nothing could be."""
    for card in all_cards().values():
        assert card.compared, card.name
        assert card.compared.startswith("Nothing could be") == (card.fidelity == "reconstruction"), card.name

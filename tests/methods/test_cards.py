"""Cards agree with their packages: names, refusals, and options that each say what they are."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from vitq.errors import BadInputError, MethodInputError
from vitq.methods.bits import Bits
from vitq.methods.cards import Card, all_cards
from vitq.methods.registry import METHODS, load
from vitq.options import declared, fault, make_options, option

NAMES = sorted(all_cards())


@pytest.mark.parametrize("name", NAMES)
def test_a_card_has_the_name_of_its_package(name: str) -> None:
    assert all_cards()[name].name == name == METHODS.offer(name).module.rpartition(".")[2]


@pytest.mark.parametrize("name", NAMES)
def test_every_option_says_its_source_its_values_and_its_effect(name: str) -> None:
    options = METHODS.load(name, "options").Options
    known = declared(options)
    assert list(known) == [field.name for field in dataclasses.fields(options)]
    assert known == all_cards()[name].options
    for each in known.values():
        assert each.source, each.name
        assert each.effect in ("row", "recipe"), each.name
        assert each.kind in ("flag", "whole", "number", "text", "list"), each.name
        assert (each.item is not None) == (each.kind == "list"), each.name
        assert each.choices is None or len(set(each.choices)) == len(each.choices) > 1, each.name
        assert set(each.effect_when) <= set(known) - {each.name}, each.name
        assert all(fault(known, other, value) is None for other, value in each.effect_when.items()), each.name


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_values_that_a_suite_may_give(name: str) -> None:
    known = all_cards()[name].options
    assert [fault(known, each.name, each.recorded) for each in known.values()] == [None] * len(known)
    options = METHODS.load(name, "options").Options
    assert make_options(options, {each.name: each.recorded for each in known.values()}) == options()


@pytest.mark.parametrize("name", NAMES)
def test_conditions_of_what_is_read_name_options_and_their_values(name: str) -> None:
    card = all_cards()[name]
    for conditions in card.reads.values():
        for when in conditions if isinstance(conditions, list) else [conditions]:
            for option_name, values in [*when.only.items(), *when.unless.items()]:
                assert [fault(card.options, option_name, value) for value in values] == [None] * len(values)


def test_an_option_that_is_not_made_by_option_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Options:
        good: int = option(1, source="ours", effect="row")
        plain: int = 2

    with pytest.raises(TypeError, match=r"\.plain is no option: make it with vitq\.options\.option"):
        declared(Options)


def test_a_wrong_option_is_told_with_what_is_right() -> None:
    @dataclasses.dataclass(frozen=True)
    class Options:
        flag: bool = option(False, source="ours", effect="row")
        rate: float | None = option(None, source="ours", effect="recipe")
        widths: tuple[int, ...] = option((2, 4), source="ours", effect="row")

    known = declared(Options)
    assert fault(known, "flog", 1) == "no option is called 'flog'; did you mean 'flag'?"
    assert fault(known, "flag", 1, "pmq") == "pmq.flag is 1; it must be true or false"
    assert fault(known, "flag", None) == "option flag is None; leave it out for the default, False"
    assert fault(known, "rate", float("nan")) == "option rate is nan; it must be a finite number, as 0.5 or 1e-5"
    assert fault(known, "rate", True) is not None
    assert fault(known, "rate", None) is None
    assert fault(known, "widths", 2) == "option widths is 2; it must be a list, each item a whole number"
    assert (
        fault(known, "widths", [2, True]) == "option widths is [2, True]; it must be a list, each item a whole number"
    )
    assert make_options(Options, {"widths": [2, 3]}).widths == (2, 3)
    with pytest.raises(MethodInputError, match="no option is called 'x'"):
        make_options(Options, {"x": 1})


@pytest.mark.parametrize("name", NAMES)
def test_the_module_refuses_what_the_card_refuses_in_its_words(name: str) -> None:
    card, method = all_cards()[name], load(name)
    refused = {str(bits): card.supports.refuses(bits) for bits in map(Bits.parse, ("FP32", "W8A8", "W4A4", "W1A1"))}
    assert any(refused.values())
    for text, reason in refused.items():
        if reason:
            assert method.unsupported(Bits.parse(text), method.Options()) == reason


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(BadInputError, match="repq_vit"):
        load("repq_vitt")


def test_cards_and_options_need_no_torch() -> None:
    code = (
        "import sys; from vitq.methods.cards import all_cards; n = [len(c.options) for c in all_cards().values()];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_card_says_where_its_fidelity_lies() -> None:
    for card in all_cards().values():
        assert isinstance(card, Card)
        assert card.fidelity == "baseline" or card.arxiv, f"{card.name} names no paper"


def test_a_card_says_what_was_compared_with_released_code() -> None:
    """Reconstructions say that nothing could be."""
    for card in all_cards().values():
        assert card.compared, card.name
        assert card.compared.startswith("Nothing could be") == (card.fidelity == "reconstruction"), card.name

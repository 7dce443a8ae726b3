"""What a method's options mean for a comparison: as declared, and what a declaration makes of a row and its recipe."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from option_facts import RECIPE, RECIPE_WHEN, ROW, declared_by_hand

from vitq.methods.cards import all_cards
from vitq.options import Declared, declared
from vitq.reports.effects import defaults, recipe_of
from vitq.reports.figure import load_figures


def declarations(method: str) -> dict[str, Declared]:
    return declared(import_module(f"vitq.methods.{method}.options").Options)


@pytest.mark.parametrize("method", ROW)
def test_options_are_declared_with_their_default_and_effect(method: str) -> None:
    found = declarations(method)
    assert defaults(found, "row") == ROW[method]
    assert defaults(found, "recipe") == RECIPE[method]
    assert not any(each.effect_when for each in found.values() if each.effect == "row")


@pytest.mark.parametrize("method", ROW)
def test_a_recipe_matters_in_the_rows_that_it_is_declared_for(method: str) -> None:
    found, when = declarations(method), RECIPE_WHEN.get(method, {})
    assert recipe_of(found, when) == RECIPE[method]
    for name, value in when.items():
        others = [choice for choice in found[name].choices or () if choice != value]
        assert others
        assert all(recipe_of(found, {name: other}) == {} for other in others)


def test_every_method_with_a_figure_is_among_them() -> None:
    assert {f.cell_method for f in load_figures()} & set(all_cards()) <= set(ROW)


@pytest.mark.parametrize(
    ("given", "lr", "points"),
    [({}, True, True), ({"images": "real"}, False, True), ({"images": "real", "extra": 1}, False, True)],
)
def test_an_effect_may_hold_under_some_options_alone(given: dict[str, Any], lr: bool, points: bool) -> None:
    known = {
        "images": Declared("images", "made", "", "row", "text"),
        "lr": Declared("lr", 0.1, "", "recipe", "number", effect_when={"images": "made"}),
        "points": Declared("points", 3, "", "recipe", "whole"),
    }
    assert set(recipe_of(known, given)) == {name for name, holds in (("lr", lr), ("points", points)) if holds}


def test_lists_are_held_as_records_hold_them() -> None:
    known = declared_by_hand()["i_vit"]
    assert known["paper_operators"].default == ()
    assert defaults(known, "row")["paper_operators"] == []

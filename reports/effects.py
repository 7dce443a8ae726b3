"""What a method's options mean for a comparison: those that make another row, and those that are a row's recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitq.options import Declared, Effect

MethodOptions = Mapping[str, Mapping[str, Declared]]
"""By method, the options that it declares by name."""


def defaults(known: Mapping[str, Declared], effect: Effect) -> dict[str, Any]:
    """Defaults of the options of this effect, as a record holds them."""
    return {name: each.recorded for name, each in known.items() if each.effect == effect}


def recipe_of(known: Mapping[str, Declared], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of the recipe that matters in the row with these options."""
    options = {**defaults(known, "row"), **defaults(known, "recipe"), **given}
    return {name: value for name, value in defaults(known, "recipe").items() if _matters(known[name], options)}


def _matters(each: Declared, options: Mapping[str, Any]) -> bool:
    return all(options.get(name) == value for name, value in each.effect_when.items())

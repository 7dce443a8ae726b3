"""A suite's method options held to the card: names, types and choices; read without torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from vitq.methods.cards import Card, Hyperparameter
from vitq.words import nearest


class MisplacedError(ValueError):
    """A fault of a word that lies `path` below the entry that was being read."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def check_options(card: Card, options: dict[str, Any]) -> None:
    """Raise MisplacedError for the first option that the method does not have or whose value it cannot take."""
    known = {h.name: h for h in card.hyperparameters}
    for name, value in options.items():
        if name not in known:
            what = f"no option of {card.name} is called {name!r}; {nearest(name, known)}"
            raise MisplacedError(what, "options", name)
        wrong = _wrong(known[name], value)
        if wrong:
            raise MisplacedError(f"{card.name}.{name} is {value!r}; {wrong}", "options", name)


def _wrong(known: Hyperparameter, value: Any) -> str | None:
    """What the option wants instead, or None where the value will do."""
    if value is None:
        return None if known.default is None else f"leave it out for the default, {known.default!r}"
    if known.choices is not None:
        # True is not 1 here, though Python takes them for equal
        fits = any(type(c) is type(value) and c == value for c in known.choices)
        return None if fits else nearest(str(value), [_word(c) for c in known.choices])
    if isinstance(known.default, list):
        return _wrong_list(known.default, value)
    kind = known.type or _KINDS[type(known.default)]
    return None if _FITS[kind](value) else _WANTED[kind]


def _wrong_list(default: list[Any], value: Any) -> str | None:
    kind = _KINDS[type(default[0])] if default else "text"
    if isinstance(value, list) and all(_FITS[kind](item) for item in value):
        return None
    return f"it must be a list, each item {_WANTED[kind].removeprefix('it must be ')}"


def _word(choice: Any) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


_KINDS: dict[type, str] = {bool: "flag", int: "whole", float: "number", str: "text"}
_FITS: dict[str, Callable[[Any], bool]] = {
    "flag": lambda value: isinstance(value, bool),
    "whole": lambda value: isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63,
    "number": lambda value: (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
    ),
    "text": lambda value: isinstance(value, str),
}
_WANTED = {
    "flag": "it must be true or false",
    "whole": "it must be a whole number",
    "number": "it must be a finite number, as 0.5 or 1e-5",
    "text": "it must be text",
}

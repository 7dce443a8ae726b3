"""A method's options, each stated once where it is declared: default, source, values, and what another value makes.

A method's `options.py` holds a frozen dataclass whose fields are made by `option`; it imports no torch, since cells are
listed and compared with figures by it. Cards, suites, figures and help read it here.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal

from vitq.errors import MethodInputError
from vitq.words import nearest, unknown

Effect = Literal["row", "recipe"]
"""What another value makes of a result: another row of the method (an ablation, a variant), or the same row measured in
another way (shorter, other images), which is not comparable with a figure."""
Kind = Literal["flag", "whole", "number", "text", "list"]
_KEY = "vitq.option"
_KINDS: dict[type, Kind] = {bool: "flag", int: "whole", float: "number", str: "text", tuple: "list", list: "list"}


@dataclasses.dataclass(frozen=True)
class Declared:
    """One option as it was declared.

    `choices` are all its values, where it has few; `kind` what its values are, `none` whether it may be none. Of a list
    `item` is what its items are, and `choices` are those of an item. `file` says that its value names a file, whose
    content decides. `effect_when` limits a recipe's effect to the rows with these options.
    """

    name: str
    default: Any
    source: str
    effect: Effect
    kind: Kind
    none: bool = False
    choices: tuple[Any, ...] | None = None
    note: str = ""
    file: bool = False
    effect_when: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    item: Kind | None = None

    @property
    def recorded(self) -> Any:
        """The default as a record holds it: JSON has no tuples."""
        return list(self.default) if isinstance(self.default, tuple) else self.default


def option(
    default: Any,
    *,
    source: str,
    effect: Effect,
    note: str = "",
    file: bool = False,
    effect_when: Mapping[str, Any] | None = None,
) -> Any:
    """A field of an options dataclass; its type says which values it takes (a Literal its choices)."""
    said = {"source": source, "effect": effect, "note": note, "file": file, "effect_when": dict(effect_when or {})}
    return dataclasses.field(default=default, metadata={_KEY: said})


def declared(options: type) -> dict[str, Declared]:
    """Every option of a dataclass by name, in its order; TypeError for a field that `option` did not make."""
    hints = typing.get_type_hints(options)
    found = {}
    for field in dataclasses.fields(options):
        if _KEY not in field.metadata:
            raise TypeError(f"{options.__module__}.{field.name} is no option: make it with vitq.options.option")
        values = _values(hints[field.name])
        found[field.name] = Declared(name=field.name, default=field.default, **values, **field.metadata[_KEY])
    return found


def make_options(cls: type, words: Mapping[str, Any]) -> Any:
    """An instance of the options dataclass; MethodInputError for an unknown name or a value of another type."""
    known = declared(cls)
    for name, value in words.items():
        wrong = fault(known, name, value)
        if wrong is not None:
            raise MethodInputError(wrong)
    return cls(**{n: tuple(v) if isinstance(v, list) else v for n, v in words.items()})


def fault(known: Mapping[str, Declared], name: str, value: Any, method: str = "") -> str | None:
    """What is wrong with an option that is given, name or value, and what is right; None where nothing is.

    `method` is whose option it is, where the reader does not know.
    """
    if name not in known:
        return unknown(f"option of {method}" if method else "option", name, known)
    wanted = _wanted(known[name], value)
    said = f"{method}.{name}" if method else f"option {name}"
    return None if wanted is None else f"{said} is {value!r}; {wanted}"


def without_effect(options: Any, names: Iterable[str]) -> list[str]:
    """Those of the options `names`, which nothing reads in this run, that are set to other than their default."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    return sorted(name for name in names if getattr(options, name) != defaults[name])


def _values(hint: Any) -> dict[str, Any]:
    """Of a type: the fields of Declared that say which values an option of it takes."""
    arms = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, UnionType) else (hint,)
    (arm,) = [arm for arm in arms if arm is not NoneType]
    kind, choices = _kind(arm)
    if kind != "list":
        return {"kind": kind, "none": NoneType in arms, "choices": choices}
    item, choices = _kind(typing.get_args(arm)[0])
    return {"kind": kind, "none": NoneType in arms, "choices": choices, "item": item}


def _kind(arm: Any) -> tuple[Kind, tuple[Any, ...] | None]:
    """What values of a type are, and all of them where it is a flag or a Literal."""
    if typing.get_origin(arm) is Literal:
        choices = typing.get_args(arm)
        return _KINDS[type(choices[0])], choices
    kind = _KINDS[typing.get_origin(arm) or arm]
    return kind, (False, True) if kind == "flag" else None


def _wanted(known: Declared, value: Any) -> str | None:
    """What an option wants instead of a value, or None where it will do."""
    if value is None:
        return None if known.none else f"leave it out for the default, {known.default!r}"
    if known.item is None:
        return _wanted_one(known.kind, known.choices, value)
    if not isinstance(value, (list, tuple)):
        return f"{_MUST_BE}a list, each item {_TESTS[known.item][1].removeprefix(_MUST_BE)}"
    wanted = next(filter(None, (_wanted_one(known.item, known.choices, item) for item in value)), None)
    return wanted and f"{_MUST_BE}a list, each item {wanted.removeprefix(_MUST_BE)}"


def _wanted_one(kind: Kind, choices: tuple[Any, ...] | None, value: Any) -> str | None:
    fits, wanted = _TESTS[kind]
    if choices is None or kind == "flag":
        return None if fits(value) else wanted
    # True is not 1 here, though Python takes them for equal
    if any(type(choice) is type(value) and choice == value for choice in choices):
        return None
    return nearest(str(value), map(str, choices))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) < 1e300 and math.isfinite(value)


_MUST_BE = "it must be "
_TESTS: dict[Kind, tuple[Callable[[Any], bool], str]] = {
    "flag": (lambda value: isinstance(value, bool), f"{_MUST_BE}true or false"),
    "whole": (_is_whole, f"{_MUST_BE}a whole number"),
    "number": (_is_number, f"{_MUST_BE}a finite number, as 0.5 or 1e-5"),
    "text": (lambda value: isinstance(value, str), f"{_MUST_BE}text"),
}
"""Of each kind but a list: whether a value is one, and what is wanted where it is not."""

"""A method's options, each stated once where it is declared: default, source, values, and what another value makes.

A method's `options.py` holds a frozen dataclass whose fields are made by `option`; it imports no torch, since cells are
listed and compared with figures by it. Cards, suites, figures and help read it here.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal

from vitq.errors import MethodInputError

Effect = Literal["row", "recipe"]
"""What another value makes of a result: another row of the method (an ablation, a variant), or the same row measured in
another way (shorter, other images), which is not comparable with a figure."""
Kind = Literal["flag", "whole", "number", "text", "list"]
_KEY = "vitq.option"
_KINDS: dict[type, Kind] = {bool: "flag", int: "whole", float: "number", str: "text", tuple: "list", list: "list"}


@dataclasses.dataclass(frozen=True)
class Declared:
    """One option as it was declared.

    `choices` are all its values, where it has few; `kind` what its values are, `none` whether it may be none. `file`
    says that its value names a file, whose content decides. `effect_when` limits a recipe's effect to the rows with
    these options.
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
        kind, none, choices = _values(hints[field.name])
        if choices is None and kind == "flag":
            choices = (False, True)
        found[field.name] = Declared(
            name=field.name, default=field.default, kind=kind, none=none, choices=choices, **field.metadata[_KEY]
        )
    return found


def make_options(cls: type, words: Mapping[str, Any]) -> Any:
    """An instance of the options dataclass; MethodInputError for an unknown name or a value of another type."""
    known = declared(cls)
    for name, value in words.items():
        if name not in known:
            raise MethodInputError(f"unknown option {name!r}; known: {', '.join(sorted(known))}")
        if not fits(known[name], value):
            raise MethodInputError(f"option {name} is {value!r}, which is not {_said(known[name])}")
    return cls(**{n: tuple(v) if known[n].kind == "list" else v for n, v in words.items()})


def fits(known: Declared, value: Any) -> bool:
    """Whether an option takes this value."""
    if value is None:
        return known.none
    if known.choices is not None:
        # True is not 1 here, though Python takes them for equal
        return any(type(choice) is type(value) and choice == value for choice in known.choices)
    types: dict[Kind, tuple[type, ...]] = {
        "flag": (bool,), "whole": (int,), "number": (int, float), "text": (str,), "list": (tuple, list),
    }  # fmt: skip
    return isinstance(value, types[known.kind]) and (known.kind == "flag" or not isinstance(value, bool))


def without_effect(options: Any, names: Iterable[str]) -> list[str]:
    """Those of the options `names`, which nothing reads in this run, that are set to other than their default."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    return sorted(name for name in names if getattr(options, name) != defaults[name])


def _values(hint: Any) -> tuple[Kind, bool, tuple[Any, ...] | None]:
    """Of a type: what its values are, whether none is one, and its choices where it is a Literal."""
    arms = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, UnionType) else (hint,)
    (arm,) = [arm for arm in arms if arm is not NoneType]
    none = NoneType in arms
    if typing.get_origin(arm) is Literal:
        choices = typing.get_args(arm)
        return _KINDS[type(choices[0])], none, choices
    return _KINDS[typing.get_origin(arm) or arm], none, None


def _said(known: Declared) -> str:
    return f"one of {', '.join(map(repr, known.choices))}" if known.choices else f"a {known.kind}"

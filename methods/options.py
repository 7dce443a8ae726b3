"""Making a method's options dataclass from a suite's words."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from typing import Any

from vitq.methods.base import MethodInputError


def make_options(cls: type, words: dict[str, Any]) -> Any:
    """An instance of the options dataclass `cls`; raises MethodInputError for an unknown name or a wrong value."""
    known = {f.name for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for name, value in words.items():
        if name not in known:
            raise MethodInputError(f"unknown option {name!r}; known: {', '.join(sorted(known))}")
        if not _fits(value, hints[name]):
            raise MethodInputError(f"option {name} is {value!r}, which is not {_say(hints[name])}")
    return cls(**words)


def without_effect(options: Any, names: Iterable[str]) -> list[str]:
    """Those of the options `names`, which nothing reads in this run, that are set to other than their default."""
    defaults = {f.name: f.default for f in dataclasses.fields(options)}
    return sorted(name for name in names if getattr(options, name) != defaults[name])


def _fits(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in args
    if origin is not None and args and origin not in (tuple, list):
        return any(_fits(value, arm) for arm in args)
    if origin in (tuple, list):
        return isinstance(value, (tuple, list))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or (isinstance(hint, type) and isinstance(value, hint))


def _say(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    return getattr(hint, "__name__", str(hint))

"""Saying what is wrong with a user's words, and which right word is nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def close(word: str, known: Iterable[str], most: int = 2, cutoff: float = 0.5) -> list[str]:
    """At most so many known words that are like `word`, the likest first; `cutoff` from 0, all, to 1, equal ones."""
    return difflib.get_close_matches(str(word)[:200], list(known), n=most, cutoff=cutoff)


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean X?`, or the list of what is known."""
    known = list(known)
    found = close(word, known)
    if found:
        return f"did you mean {' or '.join(map(repr, found))}?"
    return f"known: {', '.join(known)}" if known else "nothing is known there"


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """One line that says that no `kind` is called so, and which names are nearest."""
    return f"no {kind} is called {short(word)}; {nearest(word, known)}"


def describe(error: ValidationError, schema: type[BaseModel]) -> str:
    """One line for the first thing pydantic found wrong: where, what, and the nearest right word."""
    first = worst(error)
    where = ".".join(str(part) for part in location(error))
    if first["type"] == "extra_forbidden":
        return f"unknown key {where!r}; {nearest(str(first['loc'][-1]), _fields(schema, first['loc'][:-1]))}"
    if first["type"] == "literal_error":
        choices = str(first.get("ctx", {}).get("expected", ""))
        words = [w.strip(" '") for w in choices.replace(" or ", ", ").split(",")]
        return f"{where}: {short(first['input'])} is none of {choices}; {nearest(str(first['input']), words)}"
    message = first["msg"].removeprefix("Value error, ")
    if not isinstance(first.get("ctx", {}).get("error"), Exception) and first["type"] != "missing":
        message += f", and is {short(first['input'])}"
    return f"{where}: {message}" if where else message


def location(error: ValidationError) -> tuple[str | int, ...]:
    """Where the fault to tell first lies: pydantic's path, and below it the path of the check that found it."""
    first = worst(error)
    cause = first.get("ctx", {}).get("error")
    return (*first["loc"], *getattr(cause, "path", ()))


def short(value: Any, width: int = 80) -> str:
    """A value as Python writes it, cut to `width` characters."""
    text = repr(value)
    return text if len(text) <= width else f"{text[: width - 4]} ..."


def worst(error: ValidationError) -> Any:
    """The error to tell first: an unknown key is mostly the typo that makes another one missing."""
    errors = error.errors(include_url=False)
    return next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])


def _fields(schema: Any, path: Iterable[Any]) -> list[str]:
    """Field names of the model that `path` leads to inside `schema`."""
    for part in path:
        if isinstance(part, int):
            continue
        annotation = schema.model_fields[part].annotation if part in getattr(schema, "model_fields", {}) else schema
        schema = _model_in(annotation) or schema
    return list(getattr(schema, "model_fields", {}))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_model_in, get_args(annotation)) if m), None)

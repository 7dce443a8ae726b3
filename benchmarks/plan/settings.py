"""`--set`: options of methods from the command line, typed as the methods declare them.

A changed entry gets a variant that says what was set, so that results of other options are other cells.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitq.benchmarks.plan.suite import MethodEntry, Suite
from vitq.errors import BadInputError
from vitq.methods.cards import all_cards
from vitq.options import Declared, Kind, fault
from vitq.words import nearest, short, unknown

MOST = 80
"""Characters of a variant."""
NONE_WORDS = ("none", "null")
FLAGS = {"true": True, "false": False}


@dataclass(frozen=True)
class Setting:
    """One option of one method, with its value."""

    method: str
    option: str
    value: Any

    @property
    def word(self) -> str:
        """How a variant names it."""
        value = self.value
        said = "+".join(map(_written, value)) if isinstance(value, list) else _written(value)
        return f"{self.option}={said}"


def read_settings(words: Sequence[str], methods: Sequence[str]) -> list[Setting]:
    """`method.option=value`, or `option=value` where only one of the methods is to be quantized with.

    BadInputError names what is nearest to an unknown method or option, or says which values an option takes.
    """
    return [_read(word, methods) for word in words]


def with_settings(suite: Suite, settings: Sequence[Setting]) -> Suite:
    """The suite with these options in every entry of their methods; other options are other variants."""
    if not settings:
        return suite
    return suite.model_copy(update={"methods": [_changed(entry, settings) for entry in suite.methods]})


def _read(word: str, methods: Sequence[str]) -> Setting:
    name, equals, text = word.partition("=")
    if not equals or not name.strip():
        raise BadInputError(f"--set {short(word)} is no setting: write method.option=value")
    left, dot, right = name.strip().rpartition(".")
    method = _only(methods, name.strip()) if not dot else left
    if method not in methods:
        raise BadInputError(f"--set {short(word)}: {unknown('method here', method, methods)}")
    known = all_cards()[method].options
    if right not in known:
        raise BadInputError(f"--set {short(word)}: {_no_option(method, right, known)}")
    value = typed(known[right], text)
    wrong = fault(known, right, value, method)
    if wrong is not None:
        raise BadInputError(f"--set {short(word)}: {wrong}")
    return Setting(method, right, value)


def _no_option(method: str, option: str, known: Mapping[str, Declared]) -> str:
    return unknown(f"option of {method}", option, known) if known else f"{method} has no options"


def _only(methods: Sequence[str], option: str) -> str:
    quantizing = [name for name in methods if name != "fp32"] or list(methods)
    if len(quantizing) == 1:
        return quantizing[0]
    having = [name for name in quantizing if option in all_cards()[name].options]
    near = f"as {having[0]}.{option}=..." if having else nearest(option, _options_of(quantizing))
    raise BadInputError(f"--set {option} does not say whose option it is: write method.option=value; {near}")


def _options_of(methods: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(option for name in methods for option in all_cards()[name].options))


def typed(known: Declared, text: str) -> Any:
    """The value that a text is for an option; one that is of no such type stays text, for `fault` to refuse."""
    if known.none and text.strip().lower() in NONE_WORDS:
        return None
    if known.item is None:
        return _typed(known.kind, text)
    return [_typed(known.item, part) for part in text.split(",")] if text.strip() else []


def _typed(kind: Kind, text: str) -> Any:
    word = text.strip()
    try:
        if kind == "flag":
            return FLAGS.get(word.lower(), text)
        if kind == "whole":
            return int(word)
        return float(word) if kind == "number" else word
    except ValueError:
        return text


def _written(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else "none" if value is None else f"{value}"
    return re.sub(r"[^A-Za-z0-9_.+=-]", "-", text)


def _changed(entry: MethodEntry, settings: Sequence[Setting]) -> MethodEntry:
    """The entry with what is new to it; the last setting of an option counts."""
    found = {s.option: s for s in settings if s.method == entry.method}
    declared = all_cards()[entry.method].options
    now = {name: known.recorded for name, known in declared.items()} | entry.options
    new = [s for s in found.values() if now[s.option] != s.value]
    if not new:
        return entry
    options = {**entry.options, **{s.option: s.value for s in new}}
    return entry.model_copy(update={"options": options, "variant": _variant(entry.variant, new)})


def _variant(before: str, new: Sequence[Setting]) -> str:
    """Short words as they are; what is too long, or was written with other characters, is told apart by a digest."""
    words = [before, *(s.word for s in new)]
    name = "-".join(filter(None, words))
    exact = all(str(s.value) in s.word or isinstance(s.value, (bool, list)) or s.value is None for s in new)
    if exact and len(name) <= MOST:
        return name
    content = repr([before, *((s.option, s.value) for s in new)])
    return f"{name[: MOST - 9]}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

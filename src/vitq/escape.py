"""Text that others wrote, made harmless where it is shown: on a terminal, in Markdown, and in CSV.

Names, commands and errors of a record may come from anywhere. Shown text says what it holds and does nothing: no
control sequence reaches a terminal, no link, image or HTML arises in Markdown, no spreadsheet runs a formula.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that show nothing, or move or turn what is around them (escapes, bidi marks, surrogates)."""
_MARKUP = re.compile(r"[\\`*\[\]<>|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
_LINK = re.compile(r"(?<=\w)(:)(?=//)|(?<=www)(\.)|(@)(?=\w)", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\t")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def visible(text: str, keep: str = "") -> str:
    r"""The text with every character that shows nothing written as `\x1b` or `\u202e`; those in `keep` stay."""
    if text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _HIDDEN else _written(c) for c in text)


def line(text: str) -> str:
    """The text as one visible line; runs of white space become one space."""
    return visible(" ".join(text.split()))


def lines(text: str) -> str:
    """Several lines, each visible."""
    return visible(text, keep="\n")


def markdown(text: str) -> str:
    """One line of Markdown that renders as exactly this text, for prose and cells of tables."""
    return _LINK.sub(r"\\\g<0>", _MARKUP.sub(r"\\\g<0>", line(text)))


def code(text: str) -> str:
    """One Markdown code span of this text, with a fence longer than any run of backticks in it."""
    shown = line(text)
    if not shown:
        return ""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def csv_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: numbers as they are, such text behind an apostrophe."""
    if not isinstance(value, str):
        return value
    shown = visible(value, keep="\t\n")
    if shown.lstrip(" \n").startswith(_FORMULA) and not _NUMBER.fullmatch(shown):
        return f"'{shown}"
    return shown


def _written(character: str) -> str:
    code_point = ord(character)
    if code_point < 0x100:
        return f"\\x{code_point:02x}"
    return f"\\u{code_point:04x}" if code_point < 0x10000 else f"\\U{code_point:08x}"

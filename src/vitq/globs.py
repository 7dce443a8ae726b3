"""Names by pattern, as timm's `list_models('vit*')`: `*` is any run of characters, `?` any one, case is ignored.

A `[` is itself, since names of cells hold brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache


def is_glob(word: str) -> bool:
    """Whether the word is a pattern, and not a name."""
    return "*" in word or "?" in word


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.lower().replace("[", "[[]")))


def matches(name: str, pattern: str) -> bool:
    """Whether the whole name fits the pattern."""
    return _compiled(pattern).match(name.lower()) is not None


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Those of the names that fit, in their order."""
    return [name for name in names if matches(name, pattern)]


def fits(name: str, word: str) -> bool:
    """Whether the name fits the word: the whole of it a pattern, a part of it any other word."""
    return matches(name, word) if is_glob(word) else word.lower() in name.lower()


def matches_part(path: str, pattern: str) -> bool:
    """Whether the pattern fits the path `a/b/c`, or one of its parts, or several parts in a row as `a/b`."""
    parts = path.split("/")
    ends = range(1, len(parts) + 1)
    return any(matches("/".join(parts[start:end]), pattern) for end in ends for start in range(end))

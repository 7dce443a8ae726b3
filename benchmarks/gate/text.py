"""Text of records made safe where it is shown: they may come from anywhere."""

from __future__ import annotations

_MARKUP = "\\`*_{}[]()<>#|~@&!"


def plain(text: str) -> str:
    """For a terminal or XML: control and other unprintable characters as their escapes, on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def markdown(text: str) -> str:
    """For a Markdown table's cell: everything that marks up, mentions or ends the cell as a character reference."""
    return "".join(f"&#{ord(c)};" if c in _MARKUP else c for c in plain(text))

r"""Equations: what pymdownx.arithmatex marked, `\(...\)` and `\[...\]` of LaTeX, as MathML by latex2mathml."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_MARKED = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_UNKNOWN = re.compile(r"<m[ion]>(\\\w+)")


def to_mathml(page: str) -> str:
    """A page's HTML with every marked equation as MathML; ValueError for LaTeX that the converter does not know."""
    return _MARKED.sub(lambda found: _equation(found[3], block=found[2] == "["), page)


def _equation(escaped: str, *, block: bool) -> str:
    latex = html.unescape(escaped).strip()
    try:
        made: str = convert(latex, display="block" if block else "inline")
    except Exception as error:  # the converter has an exception for each fault of LaTeX
        raise ValueError(f"the equation {latex} is no LaTeX that can be shown: {error!r}") from error
    unknown = _UNKNOWN.search(made)
    if unknown:
        raise ValueError(f"the equation {latex} has {unknown[1]}, which latex2mathml does not know")
    return f'<div class="equation">{made}</div>' if block else made

"""What a page may ask for by a comment, `<!-- vitq: NAME WORDS -->`: each made anew from vitq itself at every build."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from command_page import commands
from lists import datasets, methods, models, runtimes, suites
from method_page import card, figures, measured, options
from repository import contributing, file
from results_page import results

_ASKED = re.compile(r"^<!-- vitq: ([\w-]+)((?: [\w./-]+)*) -->$", re.MULTILINE)
_ALMOST = re.compile(r"<!--\s*vitq\b")
Made = Callable[..., str]
MADE: dict[str, Made] = {
    "card": card,
    "commands": commands,
    "contributing": contributing,
    "datasets": datasets,
    "figures": figures,
    "file": file,
    "measured": measured,
    "methods": methods,
    "models": models,
    "options": options,
    "results": results,
    "runtimes": runtimes,
    "suites": suites,
}


def expand(text: str, more: Mapping[str, Made] | None = None) -> str:
    """A page with every such line replaced; ValueError for a name that nothing is made under, or a malformed line."""
    known = {**MADE, **(more or {})}

    def replaced(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise ValueError(f"nothing is generated under the name {found[1]!r}; known: {', '.join(sorted(known))}")
        return known[found[1]](*found[2].split())

    made = _ASKED.sub(replaced, text)
    left = _ALMOST.search(made)
    if left:
        line = made[left.start() :].splitlines()[0]
        raise ValueError(f"{line!r} asks for nothing: a line of its own reads <!-- vitq: NAME WORDS -->")
    return made

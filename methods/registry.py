"""Methods by name, imported only when asked for; a wrong name is answered with the nearest right ones."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import cast

from vitq.methods.base import Method
from vitq.methods.cards import all_cards


class UnknownMethodError(KeyError):
    """No method of that name; `str()` names the nearest ones."""

    def __init__(self, name: str) -> None:
        near = difflib.get_close_matches(name, all_cards(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(all_cards())}"
        super().__init__(name)
        self.message = f"no method is called {name!r}; {hint}"

    def __str__(self) -> str:
        return self.message


def load(name: str) -> Method:
    """The module `vitq.methods.<name>`, which offers what `Method` describes; raises UnknownMethodError."""
    if name not in all_cards():
        raise UnknownMethodError(name)
    return cast(Method, import_module(f"vitq.methods.{name}.method"))

"""A suite's method options held to what the method declares: names, types and choices; read without torch."""

from __future__ import annotations

from typing import Any

from vitq.methods.cards import Card
from vitq.options import fault


class MisplacedError(ValueError):
    """A fault of a word that lies `path` below the entry that was being read."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def check_options(card: Card, options: dict[str, Any]) -> None:
    """Raise MisplacedError for the first option that the method does not have or whose value it cannot take."""
    for name, value in options.items():
        wrong = fault(card.options, name, value, card.name)
        if wrong is not None:
            raise MisplacedError(wrong, "options", name)

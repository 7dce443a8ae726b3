"""Every method's options as declared: what reports need to tell a row from another and from its recipe."""

from __future__ import annotations

from vitq.methods.cards import all_cards
from vitq.options import Declared


def declared_options() -> dict[str, dict[str, Declared]]:
    """By method, its options by name; imports no torch."""
    return {name: card.options for name, card in all_cards().items()}

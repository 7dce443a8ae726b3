"""Every method's options as declared: what reports need to tell a row from another and from its recipe."""

from __future__ import annotations

from importlib import import_module

from vitq.methods.cards import all_cards
from vitq.options import Declared, declared


def declared_options() -> dict[str, dict[str, Declared]]:
    """By method, its options by name; imports no torch."""
    return {name: declared(import_module(f"vitq.methods.{name}.options").Options) for name in all_cards()}

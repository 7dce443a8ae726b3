"""Every method's options as declared: what reports need to tell a row from another and from its recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vitq.methods.cards import all_cards
from vitq.options import Declared


class _Options(Mapping[str, Mapping[str, Declared]]):
    """Read when asked for: another package's method that cannot be read spoils no report of others."""

    def __getitem__(self, name: str) -> Mapping[str, Declared]:
        return all_cards()[name].options

    def __contains__(self, name: object) -> bool:
        return name in all_cards()

    def __iter__(self) -> Iterator[str]:
        return iter(all_cards())

    def __len__(self) -> int:
        return len(all_cards())


def declared_options() -> Mapping[str, Mapping[str, Declared]]:
    """By method, its options by name; imports no torch."""
    return _Options()

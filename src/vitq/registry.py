"""Things by name, imported only when asked for: ours, and what other packages add by entry points.

A name stands for `module:attribute`, or for a package whose modules are asked for one by one. Listing names reads the
metadata of what is installed and imports nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from typing import Any, Generic, TypeVar, cast

from vitq.errors import BadInputError
from vitq.words import unknown

OURS = "vitq"
"""The distribution of what is in no entry point."""
HERE = "this process"
"""What stands for the distribution of what was registered at run time."""
T = TypeVar("T")


@dataclass(frozen=True)
class Offer:
    """Where a thing is, and the distribution that offers it; `module:attribute`, or a package."""

    place: str
    distribution: str

    @property
    def module(self) -> str:
        """The module or package alone."""
        return self.place.partition(":")[0].strip()

    @property
    def attribute(self) -> str:
        """What is asked of the module; empty for the module itself."""
        return self.place.partition(":")[2].strip()


class Registry(Generic[T]):
    """The things of one kind by name: `ours`, name to place, and those of the entry points' `group`, if there is one.

    `kind` is the word for one of them in what a user reads. A name that is offered twice is a BadInputError, whatever
    is asked, since nobody could tell which of the two a result is of.
    """

    def __init__(self, kind: str, ours: Mapping[str, str], group: str | None = None) -> None:
        self.kind, self.ours, self.group = kind, dict(ours), group
        self.registered: dict[str, T] = {}

    def register(self, name: str, thing: T) -> None:
        """Let this process know a thing too; registering the same again changes nothing.

        BadInputError for a name that is ours or another package's, or was registered for something else.
        """
        known = self._offers().get(name)
        if known is not None and known.distribution != HERE:
            whose = "vitq's" if known.distribution == OURS else f"that of package {known.distribution}"
            raise BadInputError(f"the {self.kind} {name!r} is {whose} already: give yours another name")
        if self.registered.setdefault(name, thing) != thing:
            raise BadInputError(f"two {self.kind}s are called {name!r}, and are not the same: give one another name")

    def names(self) -> list[str]:
        """Every name, ours first; BadInputError where two packages offer the same one."""
        return list(self._offers())

    def offer(self, name: str) -> Offer:
        """Where a thing is; BadInputError names the nearest ones where no such thing is known."""
        offers = self._offers()
        if name not in offers:
            raise BadInputError(unknown(self.kind, name, offers))
        return offers[name]

    def load(self, name: str, inside: str = "") -> T:
        """The thing itself, or the module `inside` its package.

        BadInputError for an unknown name, and in one line where another package's thing cannot be imported.
        """
        offer = self.offer(name)
        if offer.distribution == HERE:
            return self.registered[name]
        try:
            return cast(T, _found(offer, inside))
        except Exception as error:  # whatever another package's code raises
            if offer.distribution == OURS:
                raise
            raise BadInputError(f"{self.described(name)} cannot be loaded: {_one_line(error)}") from error

    def described(self, name: str) -> str:
        """The thing in words, with where it comes from."""
        offer = self.offer(name)
        return f"the {self.kind} {name!r} of package {offer.distribution} ({offer.place})"

    def _offers(self) -> dict[str, Offer]:
        offers = {name: Offer(place, OURS) for name, place in self.ours.items()}
        for name, offer in _entry_points(self.group, tuple(sys.path)) if self.group else ():
            if name in offers:
                both = " and ".join(sorted((offers[name].distribution, offer.distribution)))
                raise BadInputError(f"two packages offer a {self.kind} called {name!r}, {both}: remove one of the two")
            offers[name] = offer
        return {**offers, **{name: Offer("registered", HERE) for name in self.registered if name not in offers}}


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[tuple[str, Offer], ...]:  # noqa: ARG001  (what decides)
    """Names and offers of a group, by the metadata of the distributions on Python's path."""
    found = metadata.entry_points(group=group)
    offers = ((each.name, Offer(each.value, each.dist.name if each.dist else "an unnamed one")) for each in found)
    return tuple(sorted(offers, key=lambda pair: (pair[0], pair[1].distribution)))


def _found(offer: Offer, inside: str) -> Any:
    found: Any = import_module(f"{offer.module}.{inside}" if inside else offer.module)
    for part in filter(None, offer.attribute.split(".")):
        found = getattr(found, part)
    return found


def _one_line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__

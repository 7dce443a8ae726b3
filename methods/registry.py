"""Methods by name: the packages of this room that hold a card, and those of other packages' entry points."""

from __future__ import annotations

from importlib import resources
from types import ModuleType
from typing import TYPE_CHECKING, cast

from vitq.registry import Registry

if TYPE_CHECKING:
    from vitq.methods.base import Method

CARD = "card.yaml"
_ROOM = resources.files("vitq.methods")
METHODS: Registry[ModuleType] = Registry(
    "method",
    {f.name: f"vitq.methods.{f.name}" for f in sorted(_ROOM.iterdir(), key=str) if (f / CARD).is_file()},
    group="vitq.methods",
)
"""A name stands for a package with `card.yaml`, `options.py` and `method.py`."""


def load(name: str) -> Method:
    """The module `method` of a method's package; BadInputError names the nearest ones of an unknown name."""
    return cast("Method", METHODS.load(name, "method"))

"""What methods say of their work, as records keep it: a type a method, which the method fills and its pictures read.

A module here named as a method holds its `Details`; a method of another package may give `Details` of its own, which
are read back as `Other`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

from pydantic import BaseModel, ConfigDict


class Details(BaseModel):
    """What every method may say. `without_effect` are options that were set and that nothing in this run read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    without_effect: list[str] = []


class Other(Details):
    """Details of a method that has no type here: whatever it said."""

    model_config = ConfigDict(extra="allow", frozen=True)


@cache
def details_type(method: str) -> type[Details]:
    """The type of a method's details."""
    name = f"{__name__}.{method}"
    if not method.isidentifier() or find_spec(name) is None:
        return Other
    return cast("type[Details]", import_module(name).Details)


def read_details(method: str, content: Mapping[str, Any]) -> Details:
    """A method's details from a record's JSON; pydantic's ValidationError where they are none."""
    return details_type(method).model_validate(content)

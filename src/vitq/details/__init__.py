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

from pydantic import BaseModel, ConfigDict, ValidationError

from vitq.words import describe


class Details(BaseModel):
    """What every method may say. `without_effect` are options that were set and that nothing in this run read."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")
    without_effect: list[str] = []


class Other(Details):
    """Details of a method that has no type here: whatever it said."""

    model_config = ConfigDict(extra="allow", frozen=True, ser_json_inf_nan="constants")


@cache
def details_type(method: str) -> type[Details]:
    """The type of a method's details."""
    name = f"{__name__}.{method}"
    if not method.isidentifier() or find_spec(name) is None:
        return Other
    return cast("type[Details]", import_module(name).Details)


def read_details(method: str, content: Mapping[str, Any] | Details) -> Details:
    """A method's details from a record's JSON, or as they are; pydantic's ValidationError where they are none."""
    return content if isinstance(content, Details) else details_type(method).model_validate(content)


def with_details(fields: Any) -> Any:
    """The fields of a record or a row, with `details` read as its cell's method has them; none where it is empty.

    Raises ValueError, in one line, for details that are not the method's.
    """
    held = fields.get("details") if isinstance(fields, Mapping) else None
    if not isinstance(held, Mapping):
        return fields
    cell = fields.get("cell")
    method = str(cell.get("method", "") if isinstance(cell, Mapping) else getattr(cell, "method", ""))
    try:
        return {**fields, "details": read_details(method, held) if held else None}
    except ValidationError as error:
        raise ValueError(f"details of {method}: {describe(error, details_type(method))}") from None

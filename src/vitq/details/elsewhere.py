"""What is known of a model that was made elsewhere: who made it, what kind of file it is, what runs it."""

from __future__ import annotations

from pydantic import Field

from vitq import details


class Details(details.Details):
    """What the file says, and what could not be had of it, with the reason.

    `operators` are the products by kind and width in what the runtime executes; `batch` is None for any.
    """

    made_by: str
    format: str
    file: str
    runtime: str
    classes: int
    batch: int | None = None
    operators: dict[str, dict[str, int]] = Field(default_factory=dict)
    unknown: list[str] = Field(default_factory=list)

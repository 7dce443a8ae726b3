"""The digest of code is the same in every Python: else another Python would make all code seem changed."""

from __future__ import annotations

import pytest

from vitq.benchmarks.plan.code_identity import tree_sha256

SOURCE = b'''"""Docstring."""
from typing import Generic, TypeVar
T = TypeVar("T")
class Box(Generic[T], metaclass=type):
    """Docstring."""
    size: int = 3
    def __init__(self, *values: T, deep=None, **named) -> None:
        """Docstring."""
        self.values = [*values, {**named, "x": f"{deep!r:>{self.size}}"}]
async def run(box, /, *, times=2):
    async with box as (first, *rest):
        return [x async for x in rest if x if times][::2]
match T:
    case Box(size=1) | {"a": [_, *_]}:
        pass
    case _ if (n := 0) is None:
        del n
try:
    pass
except ValueError:
    lambda: ...
'''
DIGEST = "2aa18f245e7abf502e32bd95bdd0ff395d7e2a7e0f630ab0cdaf6c913389c428"


def test_the_digest_of_a_source_is_this_one() -> None:
    assert tree_sha256(SOURCE) == DIGEST


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"size: int = 3", b"size: int = 4"),
        (b"deep=None", b"deep=0"),
        (b"deep=None", b"deep=[]"),
        (b"*values, {", b"*values, 1, {"),
        (b"if x if times", b"if times"),
        (b"[::2]", b"[:2]"),
        (b"is None", b"is not None"),
        (b"(n := 0)", b"(n := False)"),
        (b"lambda: ...", b"lambda: None"),
        (b"metaclass=type", b""),
    ],
)
def test_what_is_computed_changes_it(old: bytes, new: bytes) -> None:
    assert old in SOURCE
    assert tree_sha256(SOURCE.replace(old, new)) != tree_sha256(SOURCE)


def test_comments_layout_and_docstrings_do_not() -> None:
    other = SOURCE.replace(b'"""Docstring."""', b'"""Other words."""  # and a comment').replace(b"T = ", b"\n\nT  =  ")
    assert tree_sha256(other) == tree_sha256(SOURCE)

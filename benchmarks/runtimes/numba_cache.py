"""Kernels that numba keeps compiled on disk, found again only while every source of their package is as it was.

numba's own cache looks at the file of the function alone, not at those that it imports, and would run a stale kernel
after a change of a function that it calls. Here the digest of all sources of a package is part of the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache


def digest_of(folder: Path) -> str:
    """sha256 of the names and texts of a folder's Python files, and of this one."""
    found = hashlib.sha256()
    for path in [*sorted(folder.glob("*.py")), Path(__file__)]:
        text = path.read_bytes()
        found.update(f"{path.name} {len(text)}\n".encode() + text)
    return found.hexdigest()


_digest = cache(digest_of)


class SourceCache(FunctionCache):  # type: ignore[misc]
    """A function's compiled forms on disk, keyed by the sources of its package too."""

    def __init__(self, function: Callable[..., Any], digest: str) -> None:
        super().__init__(function)
        self.digest = digest

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), self.digest)


def kernel(*, counts: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit(**options)`, kept on disk until a source of the function's package changes.

    Without `counts` nothing counts references to arrays, which would cost a third of attention: such a function neither
    makes nor returns an array.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options, _nrt=counts)(function)
        dispatcher._cache = SourceCache(function, _digest(Path(function.__code__.co_filename).parent))
        return dispatcher

    return compiled

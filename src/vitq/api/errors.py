"""Errors as a caller of the Python interface meets them: ordinary exceptions, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vitq.errors import BadInputError, MethodInputError


@contextmanager
def one_line() -> Iterator[None]:
    """Within, a model or an option that does not fit the method is bad input, as it is on the command line."""
    try:
        yield
    except MethodInputError as error:
        raise BadInputError(" ".join(str(error).split())) from error

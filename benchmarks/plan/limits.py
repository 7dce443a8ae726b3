"""Bounds of what a run may take of its machine, checked before anything starts."""

from __future__ import annotations

import os

from vitq.errors import BadInputError

MAX_SEED = 2**63 - 1
"""The largest seed that torch, numpy's generators and a JSON reader of 64-bit integers all take."""
MAX_IMAGES = 100_000_000


def cores() -> int:
    """Cores of this machine."""
    return os.cpu_count() or 1


def within_cores(what: str, value: int | None, least: int = 1) -> None:
    """BadInputError where `value` threads or processes are fewer than `least` or more than this machine's cores."""
    if value is not None and not least <= value <= cores():
        plural = "" if cores() == 1 else "s"
        raise BadInputError(
            f"{what} is {value}, but this machine has {cores()} core{plural}: give a number from {least} to {cores()}"
        )


def counted(what: str, word: str) -> int:
    """A number of threads or processes from the command line, `auto` one a core; BadInputError for any other word."""
    if word == "auto":
        return cores()
    try:
        value = int(word)
    except ValueError:
        raise BadInputError(f"{what} is {word!r}: give a number from 1 to {cores()}, or auto") from None
    within_cores(what, value)
    return value


def within_machine(name: str, threads: int | None, *latency_threads: int | None) -> None:
    """BadInputError where a suite asks for more threads than this machine has cores."""
    within_cores(f"suite {name}: threads", threads)
    for each in latency_threads:
        within_cores(f"suite {name}: latency.threads", each)

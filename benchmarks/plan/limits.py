"""Bounds of what a run may take of its machine, checked before anything starts; of any machine where it is planned."""

from __future__ import annotations

import os

from vitq.errors import BadInputError

MAX_SEED = 2**63 - 1
"""The largest seed that torch, numpy's generators and a JSON reader of 64-bit integers all take."""
MAX_IMAGES = 100_000_000
MAX_CORES = 4096
"""More than any machine has: the bound of what is planned for another one."""


def cores() -> int:
    """Cores of this machine."""
    return os.cpu_count() or 1


def within_cores(what: str, value: int | None, least: int = 1, *, here: bool = True) -> None:
    """BadInputError where `value` threads or processes are fewer than `least` or more than this machine's cores.

    Where they are not to be `here`: more than any machine's.
    """
    most = _most(here)
    if value is not None and not least <= value <= most:
        plural = "" if most == 1 else "s"
        has = f"this machine has {most} core{plural}" if here else f"no machine has more than {most} cores"
        raise BadInputError(f"{what} is {value}, but {has}: give a number from {least} to {most}")


def _most(here: bool) -> int:
    return cores() if here else MAX_CORES


def counted(what: str, word: str, *, here: bool = True) -> int:
    """A number of threads or processes from the command line, `auto` one a core; BadInputError for any other word."""
    if word == "auto":
        return cores()
    try:
        value = int(word)
    except ValueError:
        raise BadInputError(f"{what} is {word!r}: give a number from 1 to {_most(here)}, or auto") from None
    within_cores(what, value, here=here)
    return value


def within_machine(name: str, threads: int | None, *latency_threads: int | None, here: bool = True) -> None:
    """BadInputError where a suite asks for more threads than this machine has cores, or any where it is not `here`."""
    within_cores(f"suite {name}: threads", threads, here=here)
    for each in latency_threads:
        within_cores(f"suite {name}: latency.threads", each, here=here)

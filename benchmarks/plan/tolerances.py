"""How far each quantity may differ from a baseline: by its name, in the site file's `[gate]` or by `--allow`.

    [gate]
    top1 = 0.5          # points of accuracy, either way
    packed_mb = 0       # in the quantity's own unit, either way
    latency = 1.1       # a kernel's ratio to FP32 may grow by this factor

`accuracy` stands for every metric that has no line of its own, `conventions` for the sizes and operations that papers
count by rules of their own, and `stderrs` for the standard errors that are allowed on another machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vitq.errors import BadInputError
from vitq.metrics import METRICS
from vitq.record import Operations, Size
from vitq.words import unknown

CONVENTIONS = "conventions"
COUNTS = (*(name for name in (*Size.model_fields, *Operations.model_fields) if name != CONVENTIONS), CONVENTIONS)
ACCURACY, LATENCY, STDERRS = "accuracy", "latency", "stderrs"
NAMES = (*METRICS, ACCURACY, *COUNTS, LATENCY, STDERRS)


def checked(named: Mapping[str, float]) -> dict[str, float]:
    """The tolerances themselves; ValueError, of one line, for a name or a number that is none."""
    for name, value in named.items():
        if name not in NAMES:
            raise ValueError(unknown("quantity of the gate", name, NAMES))
        least = 1 if name == LATENCY else 0
        if not math.isfinite(value) or value < least:
            raise ValueError(f"{name} may differ by {least} or more, not by {value:g}")
    return dict(named)


def from_words(words: Sequence[str]) -> dict[str, float]:
    """`NAME=NUMBER` of the command line as tolerances; BadInputError where a word is none."""
    found = {}
    for word in words:
        name, equals, number = word.partition("=")
        try:
            found[name.strip()] = float(number) if equals else math.nan
        except ValueError:
            found[name.strip()] = math.nan
        if math.isnan(found[name.strip()]):
            raise BadInputError(f"--allow takes NAME=NUMBER, as top1=0.5, not {word[:80]!r}")
    try:
        return checked(found)
    except ValueError as error:
        raise BadInputError(f"--allow: {error}") from None

"""Options of the example's method."""

from __future__ import annotations

from dataclasses import dataclass

from vitq.options import option


@dataclass(frozen=True)
class Options:
    """What is clipped.

    Attributes:
        narrowest: the narrowest range that is tried, in percent of a channel's own.
    """

    narrowest: int = option(50, source="this example's", effect="row", note="100 clips nothing: min-max")

"""What FP32 says of its work: nothing, since it does none."""

from __future__ import annotations

from vitq import details


class Details(details.Details):
    """Nothing of its own."""

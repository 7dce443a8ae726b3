"""What plain min/max says of its work."""

from __future__ import annotations

from vitq import details


class Details(details.Details):
    """How much was read."""

    calibration_batches: int

"""The standard error of a difference between two runs on the same samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitq.benchmarks.record import Record

OUTCOMES = "outcomes"
"""Key in a record's details: by metric, `pack_outcomes` of what was right, in the order of the validation data."""


def pack_outcomes(right: Sequence[bool]) -> str:
    """One hexadecimal digit for four samples."""
    return np.packbits(np.asarray(right, dtype=bool)).tobytes().hex()


def unpack_outcomes(packed: str, n: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """0 or 1 for each of n samples; ValueError when the text holds another number of them."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(packed), dtype=np.uint8))
    if not n <= len(bits) < n + 8:
        raise ValueError(f"{len(packed)} hexadecimal digits do not hold the outcomes of {n} samples")
    return bits[:n]


def paired_stderr(before: Record, after: Record, metric: str) -> float | None:
    """Standard error in percentage points of after - before, from the outcome of every sample in both.

    With d_i in {-1, 0, 1} the difference on sample i, it is the sample deviation of d over sqrt(n). None where the
    records do not hold the outcomes, or not of the same number of samples.
    """
    n = before.metrics[metric].n
    try:
        left, right = (unpack_outcomes(r.details[OUTCOMES][metric], n).astype(float) for r in (before, after))
    except (KeyError, TypeError, ValueError):
        return None
    if n < 2:
        return None
    return float(100 * np.std(right - left, ddof=1) / np.sqrt(n))

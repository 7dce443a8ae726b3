"""numba's threads: the layer that comes with it, so that every machine runs the same one, and how many work."""

from __future__ import annotations

import numba

numba.config.THREADING_LAYER = "workqueue"
"""TBB and OpenMP may be there or not, and warn or wait where torch's own threads are beside them."""


def use_threads(count: int) -> None:
    """Let `count` threads work from now on, at most as many as numba has started."""
    numba.set_num_threads(min(count, int(numba.config.NUMBA_NUM_THREADS)))

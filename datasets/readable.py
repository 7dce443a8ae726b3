"""Whether the files of a data set can be read: all of a small one, a seeded sample of a large one; without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from vitq.datasets.base import Check
from vitq.datasets.decoding import Unreadable, quiet_pillow
from vitq.datasets.listing import Item, draw
from vitq.datasets.reading_ahead import default_workers
from vitq.subject import Progress

SMALL = 2000
"""Up to so many images, every one is read; of more, a seeded sample."""


def readable(
    name: str, items: Sequence[Item], read: Callable[[Item], object], sample: int, tell: Progress, workers: int | None
) -> Check:
    """One check of what `read` says of each item, or of `sample` of them: whether any is Unreadable."""
    quiet_pillow()
    chosen = list(items) if len(items) <= SMALL else draw(items, sample, seed=0)
    bad: list[Unreadable] = []
    with ThreadPoolExecutor(max(1, default_workers() if workers is None else workers)) as pool:
        for done, image in enumerate(pool.map(read, chosen), start=1):
            tell(name, done, len(chosen))
            if isinstance(image, Unreadable):
                bad.append(image)
    if bad:
        return Check(name, False, f"{len(bad)} of {len(chosen)} cannot be read: {bad[0].path} ({bad[0].reason})")
    return Check(name, True, f"{len(chosen)} of {len(items)} read")

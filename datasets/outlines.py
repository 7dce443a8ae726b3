"""The outlines of a mask as COCO's polygons, along the edges of its pixels: filled again they give the mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]


def polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Polygons [x1, y1, x2, y2, ...] of a mask [H, W] without holes, one a connected part, by corners alone."""
    after = _edges(mask)
    found = []
    while after:
        loop = _loop(after)
        corners = [p for p, before, then in zip(loop, [loop[-1], *loop], [*loop[1:], loop[0]], strict=False)
                   if not _straight(before, p, then)]  # fmt: skip
        found.append([float(value) for point in corners for value in point])
    return found


def _edges(mask: NDArray[np.bool_]) -> dict[Point, list[Point]]:
    """For each corner of a pixel the corners that the outline goes on to, the mask on its right hand."""
    padded = np.pad(mask, 1)
    after: dict[Point, list[Point]] = {}
    for row, column in zip(*np.nonzero(mask), strict=True):
        y, x = int(row), int(column)
        sides = (
            (padded[y, x + 1], (x, y), (x + 1, y)),
            (padded[y + 1, x + 2], (x + 1, y), (x + 1, y + 1)),
            (padded[y + 2, x + 1], (x + 1, y + 1), (x, y + 1)),
            (padded[y + 1, x], (x, y + 1), (x, y)),
        )
        for inside, start, end in sides:
            if not inside:
                after.setdefault(start, []).append(end)
    return after


def _loop(after: dict[Point, list[Point]]) -> list[Point]:
    """One closed outline, taken out of `after`; where two meet in a corner it turns right, so that they stay two."""
    start = at = min(after)
    came: Point | None = None
    loop: list[Point] = []
    while not loop or at != start:
        ways = after[at]
        way = ways[0]
        if len(ways) > 1 and came is not None:
            right = (at[0] - (at[1] - came[1]), at[1] + (at[0] - came[0]))
            way = right if right in ways else way
        ways.remove(way)
        if not ways:
            del after[at]
        loop.append(at)
        came, at = at, way
    return loop


def _straight(before: Point, at: Point, then: Point) -> bool:
    return before[0] == at[0] == then[0] or before[1] == at[1] == then[1]

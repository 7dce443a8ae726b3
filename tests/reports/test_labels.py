"""Names beside points stay in the axes and cover neither points nor each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vitq.reports.labels import Bar, Name, write_names
from vitq.reports.style import plt


@pytest.mark.parametrize("high", [50.0, 99.0])
def test_names_cover_nothing_and_stay_inside(high: float) -> None:
    """Points close together at the upper edge, where names once ran over the title."""
    axes = plt.subplots(figsize=(6.4, 4.8))[1]
    points = [Bar(0.1 * 1.15**i, high - i % 3, 0.5) for i in range(9)]
    axes.scatter([p.x for p in points], [p.y for p in points])
    axes.set_xscale("log")
    axes.set_xlim(0.08, 1.0)
    axes.set_ylim(20, 102)
    names = [Name(p.x, p.y, f"a method W4A4\nvariant {i}") for i, p in enumerate(points)]
    left_out = write_names(axes, names, points)
    assert len(left_out) < len(names) / 2
    inside = axes.get_window_extent()
    boxes = [super(type(text), text).get_window_extent() for text in axes.texts]
    assert len(boxes) == len(names) - len(left_out)
    assert all(inside.x0 <= b.x0 and b.x1 <= inside.x1 and inside.y0 <= b.y0 and b.y1 <= inside.y1 for b in boxes)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    pixels = axes.transData.transform(np.array([p[:2] for p in points]))
    assert not any(box.contains(x, y) for box in boxes for x, y in pixels)
    plt.close("all")


def test_a_name_without_room_is_left_out() -> None:
    axes = plt.subplots(figsize=(1, 1))[1]
    axes.set_ylim(0, 1)
    long = Name(0.5, 0.5, "a name far longer than the axes are wide")
    assert write_names(axes, [long], [Bar(0.5, 0.5, 0.0)]) == [long]
    assert not axes.texts
    plt.close("all")

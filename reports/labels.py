"""Names beside the points of a picture, each where it is inside the axes and covers no point and no other name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import Bbox

_RADII = (9, 16, 26, 38, 52, 68, 86)
"""How far a name may be from its point, in typographic points."""
_ANGLES = (135, -45, 45, -135, 90, -90, 160, -20, 20, -160, 110, -70, 70, -110)
"""Directions in degrees, the ones tried first beside a front that climbs to the right."""
_HALF_MARKER = 4.5
_NEAR = 10
_PAD = 1.5


class Name(NamedTuple):
    """A text at a point in data coordinates."""

    x: float
    y: float
    text: str


class Bar(NamedTuple):
    """A marker in data coordinates, with its standard error up and down."""

    x: float
    y: float
    error: float

    @property
    def ends(self) -> tuple[float, float]:
        """The bar's lower and upper end."""
        return self.y - self.error, self.y + self.error


def write_names(axes: Axes, names: Sequence[Name], points: Sequence[Bar]) -> list[Name]:
    """Write the names beside their points, a thin line to those farther off; call it when the layout is done.

    `points` are all markers with their error bars. A name that has no free place is left out, and returned.
    """
    markers = [box for point in points for box in _covered(axes, point)]
    written: list[Bbox] = []
    left_out = []
    for name in sorted(names):
        box = _write(axes, name, [*markers, *written])
        if box is None:
            left_out.append(name)
        else:
            written.append(box)
    return left_out


def _covered(axes: Axes, bar: Bar) -> list[Bbox]:
    """What a marker and its error bar cover, in pixels."""
    dots = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    (x, y), (_, low), (_, high) = axes.transData.transform([(bar.x, y) for y in (bar.y, *bar.ends)])
    half, thin = _HALF_MARKER * dots, dots
    return [Bbox.from_extents(x - half, y - half, x + half, y + half), Bbox.from_extents(x - thin, low, x + thin, high)]


def _write(axes: Axes, name: Name, taken: Sequence[Bbox]) -> Bbox | None:
    """The box of the name where it was written, or None."""
    inside = axes.get_window_extent()
    for right, up in _offsets():
        far = math.hypot(right, up) > _NEAR
        text = axes.annotate(
            name.text, (name.x, name.y), (right, up), textcoords="offset points", fontsize=7, color="#333333",
            ha="left" if right > 1 else "right" if right < -1 else "center", va="bottom" if up > 0 else "top",
            arrowprops={"arrowstyle": "-", "color": "#999999", "lw": 0.6, "shrinkA": 0, "shrinkB": 3} if far else None,
            zorder=5,
        )  # fmt: skip
        text.get_window_extent()  # puts it where it will be
        box = Text.get_window_extent(text).padded(_PAD)  # of the words alone, without the line
        if _holds(inside, box) and not any(box.overlaps(other) for other in taken):
            return box
        text.remove()
    return None


def _offsets() -> Iterator[tuple[float, float]]:
    for radius in _RADII:
        for angle in _ANGLES:
            yield radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle))


def _holds(outer: Bbox, inner: Bbox) -> bool:
    return bool(outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1)

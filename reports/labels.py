"""Names beside the points of a picture, each where it is inside the axes and covers no point and no other name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

_RADII = (9, 16, 26, 38, 52, 68, 86)
"""How far a name may be from its point, in typographic points."""
_ANGLES = (135, -45, 45, -135, 90, -90, 160, -20, 20, -160, 110, -70, 70, -110)
"""Directions in degrees, the ones tried first beside a front that climbs to the right."""
_HALF_MARKER = 4.5
_NEAR = 10
_PAD = 3


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


class _Written(NamedTuple):
    """A name that has its place, its box in pixels, and the line to its point if it has one."""

    text: Annotation
    box: Bbox
    line: Path | None


def write_names(axes: Axes, names: Sequence[Name], points: Sequence[Bar], curves: Sequence[Bar] = ()) -> list[Name]:
    """Write the names beside their points, a thin line to those farther off; call it when the layout is done.

    `points` are all markers with their error bars, `curves` places along drawn lines: no name lies on either. A thin
    line runs over another name or marker only where no order of writing avoids it, of two that are tried. A name that
    has no free place is left out, and returned.
    """
    markers = [box for point in points for box in _covered(axes, point)]
    covered = [*markers, *(box for place in curves for box in _covered(axes, place))]
    orders = [sorted(names), sorted(names, reverse=True)]
    tried = [_written(axes, order, covered, markers) for order in orders]
    best = min(tried, key=lambda found: (len(found.left_out), found.crossings))
    for text in (text for found in tried if found is not best for text in found.texts):
        text.remove()
    return best.left_out


class _Found(NamedTuple):
    """Names as they were written in one order."""

    texts: list[Annotation]
    left_out: list[Name]
    crossings: int


def _written(axes: Axes, names: Sequence[Name], covered: Sequence[Bbox], markers: Sequence[Bbox]) -> _Found:
    written: list[_Written] = []
    left_out = []
    crossings = 0
    for name in names:
        place = _write(axes, name, covered, written, markers)
        if place is None:
            place = _write(axes, name, covered, written, None)
            crossings += 1
        if place is None:
            left_out.append(name)
        else:
            written.append(place)
    return _Found([place.text for place in written], left_out, crossings)


def _covered(axes: Axes, bar: Bar) -> list[Bbox]:
    """What a marker and its error bar cover, in pixels."""
    dots = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    (x, y), (_, low), (_, high) = axes.transData.transform([(bar.x, y) for y in (bar.y, *bar.ends)])
    half, thin = _HALF_MARKER * dots, dots
    return [Bbox.from_extents(x - half, y - half, x + half, y + half), Bbox.from_extents(x - thin, low, x + thin, high)]


def _write(
    axes: Axes, name: Name, covered: Sequence[Bbox], written: Sequence[_Written], markers: Sequence[Bbox] | None
) -> _Written | None:
    """Where the name was written, or None; no line runs over a name or one of the markers, unless these are None."""
    inside = axes.get_window_extent()
    x, y = axes.transData.transform((name.x, name.y))
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
        line = Path([(x, y), ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)]) if far else None
        free = _holds(inside, box) and not any(box.overlaps(other) for other in (*covered, *(w.box for w in written)))
        others = [marker for marker in markers or () if not marker.contains(x, y)]
        if free and (markers is None or not _crosses(box, line, others, written)):
            return _Written(text, box, line)
        text.remove()
    return None


def _crosses(box: Bbox, line: Path | None, markers: Sequence[Bbox], written: Sequence[_Written]) -> bool:
    """Whether the line runs over another name, line or marker, or another name's line over this box."""
    lines = [w.line for w in written if w.line is not None]
    mine = line is not None and (
        any(line.intersects_bbox(other) for other in (*markers, *(w.box for w in written)))
        or any(line.intersects_path(other) for other in lines)
    )
    return mine or any(other.intersects_bbox(box) for other in lines)


def _offsets() -> Iterator[tuple[float, float]]:
    for radius in _RADII:
        for angle in _ANGLES:
            yield radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle))


def _holds(outer: Bbox, inner: Bbox) -> bool:
    return bool(outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1)

"""How each embedded digit is distorted: turned, sheared, cluttered and faded, by whole numbers drawn from a hash.

An image is drawn in layers: pieces of scans of the training split as clutter, and over them the digit itself. Every
number follows from sha256 of a text ("digits:<index>" for what is evaluated) and is whole, so that an image is the same
to the last bit on every machine and with every version of any package; read without torch, numpy and scikit-learn.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

ONE = 1 << 8
"""The 1.0 of whole-numbered coordinates and coefficients."""
SIDE = 24
"""Pixels of an image's side."""
SCAN = 8
"""Pixels of a scan's side."""
CLUTTER = 2
"""Pieces of other scans in an image."""


@dataclass(frozen=True)
class Layer:
    """A square of a scan, drawn into the image.

    The pixel at (x, y) from the image's centre, in pixels, shows the scan at

        u = xx x + xy y + x0,  v = yx x + yy y + y0     (all in units of 1 / ONE; u to the right, v down)

    from the scan's upper left corner, in scan pixels; nothing outside of `side` scan pixels from (`left`, `top`). `ink`
    is how dark the darkest scan pixel gets, 0 to 255.
    """

    scan: int
    left: int
    top: int
    side: int
    xx: int
    xy: int
    yx: int
    yy: int
    x0: int
    y0: int
    ink: int


@dataclass(frozen=True)
class Distortion:
    """What an image is drawn of: its layers, the last one the digit, the paper's grey and noise, and the noise's name.

    `paper` is the value of a pixel without ink, 0 to 255; `noise` the largest deviation of a pixel.
    """

    layers: tuple[Layer, ...]
    paper: int
    noise: int
    grain: str

    def sha256(self) -> str:
        """Of all its numbers."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


class Numbers:
    """Whole numbers that follow from a text: SHAKE-256 of it, four bytes a number, `most` of them."""

    def __init__(self, text: str, most: int = 16 * (CLUTTER + 2)) -> None:
        self._bytes, self._at = hashlib.shake_256(text.encode()).digest(4 * most), 0

    def between(self, least: int, most: int) -> int:
        """Uniform from `least` to `most`, both included (but for 2^-32 times the width of the range)."""
        self._at += 4
        drawn = int.from_bytes(self._bytes[self._at - 4 : self._at], "big")
        return least + drawn % (most - least + 1)


def distort(scan: int, clutter: Sequence[int], text: str) -> Distortion:
    """Draw a digit distorted by the numbers that follow from a text.

    Uniform: turned by +-30 degrees, sheared by +-0.2, enlarged 1.9 to 2.6 times (8 pixels to 15 to 21, of 24), widened
    or narrowed by 15 %, shifted by +-2 pixels, ink of 120 to 220 over paper of 0 to 40. Beside it lie two quarters of
    scans of the training split, each turned at will, enlarged as much, 10 to 13 pixels from the centre, with ink of 60
    to 160; over all lies noise of up to +-5 to +-20.
    """
    numbers = Numbers(text)
    pieces = tuple(_piece(clutter[numbers.between(0, len(clutter) - 1)], numbers) for _ in range(CLUTTER))
    digit = place_layer(
        scan, (0, 0, SCAN), degrees(numbers, 30), numbers.between(-200, 200), numbers.between(-150, 150),
        numbers.between(1900, 2600), (numbers.between(-2000, 2000), numbers.between(-2000, 2000)),
        numbers.between(120, 220),
    )  # fmt: skip
    return Distortion((*pieces, digit), numbers.between(0, 40), numbers.between(5, 20), f"{text}:grain")


def _piece(scan: int, numbers: Numbers) -> Layer:
    half = SCAN // 2
    square = half * numbers.between(0, 1), half * numbers.between(0, 1), half
    away, where = numbers.between(10000, 13000), degrees(numbers, 180)
    shift = round(away * math.cos(where)), round(away * math.sin(where))
    turn, enlarged, ink = degrees(numbers, 180), numbers.between(1900, 2600), numbers.between(60, 160)
    return place_layer(scan, square, turn, 0, 0, enlarged, shift, ink)


def degrees(numbers: Numbers, most: int) -> float:
    """An angle of whole degrees between +-`most`, in radians."""
    return math.radians(numbers.between(-most, most))


def place_layer(
    scan: int,
    square: tuple[int, int, int],
    turn: float,
    shear: int,
    widen: int,
    enlarged: int,
    shift: tuple[int, int],
    ink: int,
) -> Layer:
    """A layer from what is done to the square: shear, widen, enlarge, turn, shift; all but `turn` in thousandths."""
    left, top, side = square
    cos, sin = math.cos(turn) * 1000 / enlarged, math.sin(turn) * 1000 / enlarged
    wide, lean = 1 + widen / 1000, shear / 1000
    xx, xy = (cos - lean * sin) / wide, (sin + lean * cos) / wide
    yx, yy = -sin * wide, cos * wide
    x, y, centre = shift[0] / 1000, shift[1] / 1000, side / 2
    return Layer(
        scan, left, top, side, _whole(xx), _whole(xy), _whole(yx), _whole(yy),
        _whole(left + centre - xx * x - xy * y), _whole(top + centre - yx * x - yy * y), ink,
    )  # fmt: skip


def _whole(number: float) -> int:
    return round(number * ONE)

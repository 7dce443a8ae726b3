"""Scenes of digits, drawn: 128x128, two to six real scans of many sizes that hide one another, and pieces as clutter.

Every number follows from sha256 of the scene's name and is whole, so that a scene is the same to the last bit on every
machine. What a digit covers is its outline filled, less what later digits hide of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vitq.datasets.digit_distortion import SCAN, Layer, Numbers, degrees, place_layer
from vitq.datasets.digit_scans import ink_of, scans
from vitq.datasets.digits import splits

SIDE = 128
"""Pixels of a scene's side."""
MOST_DIGITS, MOST_PIECES, TRIES = 6, 7, 8
EDGE = 90
"""Of 255: a pixel with more ink than this belongs to the digit."""
HIDDEN = 4
"""At most one part in so many of a digit is hidden by another."""
CROWD_ONE_IN = 6
"""One scene in so many has a crowd: small digits of one class, close together, annotated as one."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Drawn:
    """One scene: grey pixels [128, 128], and of each thing its digit, mask [128, 128] and whether it is a crowd."""

    pixels: NDArray[np.uint8]
    labels: tuple[int, ...]
    masks: tuple[Mask, ...]
    crowd: tuple[bool, ...]

    def label_map(self) -> NDArray[np.uint8]:
        """[128, 128]: 0 where there is paper, 1 + digit where one is."""
        found = np.zeros((SIDE, SIDE), np.uint8)
        for label, mask in zip(self.labels, self.masks, strict=True):
            found[mask] = label + 1
        return found


def draw_scene(name: str, members: Sequence[int]) -> Drawn:
    """The scene of a name, of scans among `members` (indices into scikit-learn's order).

    Uniform: paper of 0 to 40; 3 to 7 quarters of training scans, turned at will, enlarged 2 to 4.5 times, with ink of
    50 to 140; 2 to 6 digits turned by +-25 degrees, sheared by +-0.2, widened by +-15 %, enlarged 2 to 7 times (16 to
    56 pixels), with ink of 90 to 220; noise of up to +-5 to +-20.
    """
    numbers = Numbers(name, most=4096)
    picture = np.full((SIDE, SIDE), numbers.between(0, 40), np.int32)
    for _ in range(numbers.between(3, MOST_PIECES)):
        picture = np.maximum(picture, ink_of([_piece(numbers)], SIDE)[0])
    canvas = _Canvas(picture)
    if numbers.between(1, CROWD_ONE_IN) == 1:
        _add_crowd(canvas, numbers, members)
    for _ in range(numbers.between(2, MOST_DIGITS)):
        _add_digit(canvas, numbers, members)
    noise, grain = numbers.between(5, 20), np.frombuffer(_grain(name), np.uint8).astype(np.int32)
    speckle = (grain.reshape(SIDE, SIDE) * 2 - 255) * noise // 255
    pixels = np.clip(canvas.picture + speckle, 0, 255).astype(np.uint8)
    return Drawn(pixels, tuple(canvas.labels), tuple(canvas.masks), tuple(canvas.crowd))


class _Canvas:
    """A scene under way: the picture, and what has been put into it."""

    def __init__(self, picture: NDArray[np.int32]) -> None:
        self.picture = picture
        self.labels: list[int] = []
        self.masks: list[Mask] = []
        self.crowd: list[bool] = []

    def takes(self, mask: Mask) -> bool:
        """Whether a thing of this mask would hide no more than is allowed of any, and cut no hole into one."""
        if not mask.any():
            return False
        for other in self.masks:
            hidden = int((mask & other).sum())
            if HIDDEN * hidden > int(other.sum()) or HIDDEN * hidden > int(mask.sum()):
                return False
            left = other & ~mask
            if hidden and (ndimage.binary_fill_holes(left) != left).any():
                return False
        return True

    def put(self, label: int, mask: Mask, ink: NDArray[np.int32], crowd: bool = False) -> None:
        """Draw a thing over what is there."""
        self.masks = [other & ~mask for other in self.masks]
        self.picture = np.where(mask, ink, np.maximum(self.picture, ink))
        self.labels.append(label)
        self.masks.append(mask)
        self.crowd.append(crowd)


def _add_digit(canvas: _Canvas, numbers: Numbers, members: Sequence[int]) -> None:
    """One digit where there is room for it; none after some tries."""
    for _ in range(TRIES):
        scan, enlarged = members[numbers.between(0, len(members) - 1)], numbers.between(2000, 7000)
        reach = 1000 * SIDE // 2 - SCAN // 2 * enlarged
        layer = place_layer(
            scan, (0, 0, SCAN), degrees(numbers, 25), numbers.between(-200, 200), numbers.between(-150, 150), enlarged,
            (numbers.between(-reach, reach), numbers.between(-reach, reach)), 255,
        )  # fmt: skip
        dark, full = numbers.between(90, 220), ink_of([layer], SIDE)[0]
        mask = ndimage.binary_fill_holes(full > EDGE)
        if canvas.takes(mask):
            canvas.put(int(scans()[1][scan]), mask, full * dark // 255)
            return


def _add_crowd(canvas: _Canvas, numbers: Numbers, members: Sequence[int]) -> None:
    """Four to seven small copies of one scan, side by side, as one thing."""
    scan, dark = members[numbers.between(0, len(members) - 1)], numbers.between(90, 220)
    across, down = numbers.between(-40, 20), numbers.between(-45, 45)
    full = np.zeros((SIDE, SIDE), np.int32)
    for number in range(numbers.between(4, 7)):
        at = (1000 * (across + 9 * number - 18), 1000 * (down + numbers.between(-5, 5)))
        layer = place_layer(scan, (0, 0, SCAN), degrees(numbers, 25), 0, 0, numbers.between(1000, 1400), at, 255)
        full = np.maximum(full, ink_of([layer], SIDE)[0])
    mask = ndimage.binary_fill_holes(full > EDGE)
    if canvas.takes(mask):
        canvas.put(int(scans()[1][scan]), mask, full * dark // 255, crowd=True)


def _piece(numbers: Numbers) -> Layer:
    """A quarter of a training scan, anywhere."""
    half, clutter = SCAN // 2, splits()["train"]
    scan = clutter[numbers.between(0, len(clutter) - 1)]
    square = half * numbers.between(0, 1), half * numbers.between(0, 1), half
    turn, enlarged = degrees(numbers, 180), numbers.between(2000, 4500)
    reach = 1000 * SIDE // 2
    shift = numbers.between(-reach, reach), numbers.between(-reach, reach)
    return place_layer(scan, square, turn, 0, 0, enlarged, shift, numbers.between(50, 140))


def _grain(name: str) -> bytes:
    return hashlib.shake_256(f"{name}:grain".encode()).digest(SIDE * SIDE)

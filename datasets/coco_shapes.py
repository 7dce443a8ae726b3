"""What a COCO annotation draws: its box, its polygons or runs (RLE) as a mask, and what is wrong with them; no torch.

Two images of the official train2017 have a box without area (200365 and 550395,
github.com/cocodataset/cocoapi/issues/355). So a box without area, or outside of its image, is refused where it is
evaluated, for nothing can be found there, and left out where it is calibrated or trained on, as mmdet leaves it out
(with boxes of less than a pixel). Polygons and runs that draw nothing or another image are refused in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitq.datasets.coco_annotations import CocoImage, is_number
from vitq.errors import BadInputError, UnsupportedError
from vitq.mm import why_absent
from vitq.words import short

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def box_fault(annotation: Mapping[str, Any], image: CocoImage) -> str | None:
    """Why nothing can be found where an annotation's box is; None where something can."""
    x, y, width, height = annotation["bbox"]
    if width * height == 0:
        return f"its box {annotation['bbox']} has no area"
    if annotation["area"] == 0:
        return "its area is 0"
    if min(x + width, image.width) <= max(x, 0) or min(y + height, image.height) <= max(y, 0):
        return f"its box {annotation['bbox']} lies outside of the image of {image.width} x {image.height} pixels"
    return None


def shape_fault(annotation: Mapping[str, Any], image: CocoImage) -> str | None:
    """Why an annotation's polygons or runs cannot be drawn on its image; None where they can."""
    shape = annotation["segmentation"]
    if isinstance(shape, dict):
        return _runs_fault(shape, image)
    return _polygons_fault(shape, image)


def check_evaluated(image: CocoImage) -> None:
    """BadInputError for the first annotation of an image that cannot be evaluated."""
    for annotation in image.annotations:
        fault = box_fault(annotation, image) or shape_fault(annotation, image)
        if fault:
            raise refused(annotation, image, fault)


def refused(annotation: Mapping[str, Any], image: CocoImage, fault: str) -> BadInputError:
    """One line that names the annotation and what is wrong with it."""
    return BadInputError(f"annotation {annotation['id']} of {image.path}: {fault}; correct or remove it")


def taught(image: CocoImage) -> list[dict[str, Any]]:
    """The annotations that are calibrated and trained on; BadInputError where a shape cannot be drawn."""
    kept = []
    for annotation in image.annotations:
        if box_fault(annotation, image) or min(annotation["bbox"][2:]) < 1:
            continue
        fault = shape_fault(annotation, image)
        if fault:
            raise refused(annotation, image, fault)
        kept.append(annotation)
    return kept


def _polygons_fault(polygons: Sequence[Any], image: CocoImage) -> str | None:
    if not polygons:
        return "it has no polygon"
    reach = 2 * max(image.width, image.height)  # far points would be drawn step by step
    for polygon in polygons:
        if not isinstance(polygon, list) or not all(map(is_number, polygon)):
            return f"polygon {short(polygon)} is no list of numbers"
        if len(polygon) < 6:
            return f"a polygon has {len(polygon) // 2} points, at least 3 make one"
        if len(polygon) % 2:
            return f"a polygon has {len(polygon)} coordinates, an odd number"
        if min(polygon) < -reach or max(polygon) > reach:
            return f"a polygon reaches to {min(polygon):g} and {max(polygon):g}, far outside of the image"
    return None


def _runs_fault(runs: Mapping[str, Any], image: CocoImage) -> str | None:
    size = [image.height, image.width]
    if runs.get("size") != size:
        return f"its RLE is of size {short(runs.get('size'), 40)}, the image of {size}"
    counts = runs.get("counts")
    if isinstance(counts, str):
        counts = _unpacked(counts)
    if not isinstance(counts, list) or not all(type(each) is int and each >= 0 for each in counts):
        return "the counts of its RLE are no whole numbers"
    if sum(counts) != image.width * image.height:
        return f"its RLE has {sum(counts)} pixels, the image {image.width * image.height}"
    if not any(counts[1::2]):
        return "its RLE marks no pixel"
    return None


def _unpacked(text: str) -> list[int] | None:
    """Counts from COCO's compressed form, None where it is none (pycocotools would read past its end).

    Each count is written in groups of 5 bits from the lowest, as characters from `0`, bit 5 marking that more follow
    and bit 4 of the last the sign; from the fourth on a count is written as its difference to the one two before
    (`rleToString` in cocoapi's maskApi.c).
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        value -= (1 << shift) if code & 16 else 0
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return None if shift else counts


def mask(annotation: Mapping[str, Any], image: CocoImage) -> NDArray[np.uint8]:
    """What an annotation covers, [height, width] of 0 and 1, of a shape without fault; polygons by pycocotools.

    Raises UnsupportedError where pycocotools is not installed.
    """
    import numpy as np

    shape, size = annotation["segmentation"], (image.height, image.width)
    if isinstance(shape, dict):
        given = shape["counts"]
        counts: list[int] = (_unpacked(given) or []) if isinstance(given, str) else given
        marks = np.arange(len(counts), dtype=np.uint8) % 2
        columns: NDArray[np.uint8] = np.repeat(marks, counts)
        return columns.reshape(size, order="F")  # runs go down the columns
    absent = why_absent("pycocotools")
    if absent:
        raise UnsupportedError(absent)
    from pycocotools import mask as drawn

    found: NDArray[np.uint8] = drawn.decode(drawn.merge(drawn.frPyObjects(shape, *size)))
    return found

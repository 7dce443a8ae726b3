"""COCO's annotation files, `annotations/instances_<split>.json`: read whole, checked, and sorted by image.

What is checked here holds of a file as such: its lists, ids that are given once, images that are named as files of
their split, annotations that name an image and one of the 80 categories, and numbers that are numbers (true, NaN and
infinity are none). What an annotation draws is checked by `coco_shapes`, of the images that are used. Read without
torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NoReturn

from vitq.datasets.listing import is_plain
from vitq.datasets.scene_classes import COCO_CATEGORIES
from vitq.errors import BadInputError
from vitq.words import short

MAX_BYTES = 2 << 30
"""No annotation file is larger; that of train2017 has 0.45 GB."""
MAX_SIDE = 1 << 15
"""No image is longer or wider, in pixels; those of COCO have at most 640."""
_SHAPE = ("category_id", "iscrowd", "bbox", "area", "segmentation")
"""What of an annotation decides a result."""


@dataclass(frozen=True)
class CocoImage:
    """One image of a split: its id, its path in the data set's folder, its size in pixels, and its annotations.

    The annotations are as the file has them, in its order, each checked as the module says.
    """

    id: int
    path: str
    width: int
    height: int
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def sha256(self) -> str:
        """Of its size and of what its annotations say, ids left out."""
        said = [[annotation[key] for key in _SHAPE] for annotation in self.annotations]
        return hashlib.sha256(json.dumps([self.width, self.height, said], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class CocoAnnotations:
    """One annotation file: the images of a split by path, in the file's order, and the categories as it has them."""

    file: Path
    images: dict[str, CocoImage]
    categories: list[dict[str, Any]]

    @cached_property
    def count(self) -> int:
        """How many annotations there are."""
        return sum(len(image.annotations) for image in self.images.values())

    def truth(self, paths: Sequence[str]) -> dict[str, Any]:
        """What is to be found on these images, as a COCO file says it: `images`, `annotations`, `categories`.

        The dicts are the caller's own: evaluators write into them.
        """
        chosen = [self.images[path] for path in paths]
        sizes = [
            {"id": i.id, "file_name": Path(i.path).name, "width": i.width, "height": i.height} for i in chosen
        ]  # fmt: skip
        return {
            "images": sizes,
            "annotations": [dict(annotation) for image in chosen for annotation in image.annotations],
            "categories": [dict(category) for category in self.categories],
        }


def read_annotations(root: Path, split: str) -> CocoAnnotations:
    """The annotations of a split, read once as long as the file stays as it is; BadInputError as the module says."""
    file = root / "annotations" / f"instances_{split}.json"
    try:
        found = file.stat()
    except OSError as error:
        raise BadInputError(f"{file} cannot be read ({error.strerror}): put the annotations of {split} there") from None
    if not stat.S_ISREG(found.st_mode):
        raise BadInputError(f"{file} is not a regular file: put the annotations of {split} there")
    if found.st_size > MAX_BYTES:
        raise BadInputError(f"{file} has {found.st_size} bytes, more than {MAX_BYTES} are not read")
    return _read(file, split, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@lru_cache(maxsize=2)
def _read(file: Path, split: str, stamp: tuple[int, ...]) -> CocoAnnotations:  # noqa: ARG001 (tells versions apart)
    given = _parsed(file)
    try:
        lists = {key: _list(given, key) for key in ("images", "annotations", "categories")}
        _check_categories(lists["categories"])
        images = _images(lists["images"], split)
        _sort_in(images, lists["annotations"])
    except _Fault as fault:
        raise BadInputError(f"{file}: {fault}; correct the file or fetch it again") from None
    return CocoAnnotations(file, {image.path: image for image in images.values()}, lists["categories"])


class _Fault(Exception):
    """What is wrong with a file, without its name."""


def _parsed(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes(), parse_constant=_no_constant)
    except OSError as error:
        raise BadInputError(f"{file} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise BadInputError(f"{file} is nested too deep to be COCO's annotations") from None
    except ValueError as error:  # broken JSON, other encodings, numbers of thousands of digits
        raise BadInputError(f"{file} is not JSON: {' '.join(str(error).split())}; fetch it again") from None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _list(given: Any, key: str) -> list[dict[str, Any]]:
    if not isinstance(given, dict):
        raise _Fault("it is no JSON object with images, annotations and categories")
    found = given.get(key)
    if not isinstance(found, list):
        raise _Fault(f"it has no list {key!r}")
    odd = next((n for n, each in enumerate(found) if not isinstance(each, dict)), None)
    if odd is not None:
        raise _Fault(f"{key}[{odd}] is no object but {short(found[odd], 40)}")
    return found


def _check_categories(categories: Sequence[Mapping[str, Any]]) -> None:
    """The 80 of COCO 2017, ids and names, in the order of their ids."""
    found = [(each.get("id"), each.get("name")) for each in categories]
    if len(found) != len(COCO_CATEGORIES):
        raise _Fault(f"it has {len(found)} categories, COCO 2017 has {len(COCO_CATEGORIES)}")
    for (number, name), wanted in zip(found, COCO_CATEGORIES.items(), strict=True):
        if isinstance(number, bool) or (number, name) != wanted:
            raise _Fault(f"category {short(number, 20)} {short(name, 40)} stands where COCO 2017 has {wanted}")


def _images(given: Sequence[Mapping[str, Any]], split: str) -> dict[int, CocoImage]:
    images: dict[int, CocoImage] = {}
    names: set[str] = set()
    for n, each in enumerate(given):
        where, name = f"images[{n}]", each.get("file_name")
        number = _whole(where, "id", each.get("id"), 0, 2**63 - 1)
        width, height = (_whole(where, side, each.get(side), 1, MAX_SIDE) for side in ("width", "height"))
        if not isinstance(name, str) or not is_plain(name) or name in ("", ".", "..") or set("/\\") & set(name):
            raise _Fault(f"{where} (id {number}): file_name {short(name, 60)} is no name of a file in {split}")
        if number in images or name in names:
            raise _Fault(f"{where}: id {number} or {name!r} is given twice")
        names.add(name)
        images[number] = CocoImage(number, f"{split}/{name}", width, height)
    if not images:
        raise _Fault("it lists no image")
    return images


def _sort_in(images: Mapping[int, CocoImage], given: Sequence[dict[str, Any]]) -> None:
    """Put every annotation to its image."""
    seen: set[int] = set()
    for n, each in enumerate(given):
        number = each.get("id")
        if type(number) is not int or not 1 <= number < 2**63:  # to COCO's evaluation 0 means that nothing matches
            raise _Fault(f"annotations[{n}]: id is {short(number, 40)}, not a whole number from 1")
        if number in seen:
            raise _Fault(f"annotation id {number} is given twice")
        seen.add(number)
        _check_annotation(f"annotation {number}", each, images)
        images[each["image_id"]].annotations.append(each)


def _check_annotation(where: str, each: dict[str, Any], images: Mapping[int, CocoImage]) -> None:
    image, category, crowd = (each.get(key) for key in ("image_id", "category_id", "iscrowd"))
    if type(image) is not int or image not in images:
        raise _Fault(f"{where} is of image {short(image, 40)}, which is not listed")
    if type(category) is not int or category not in COCO_CATEGORIES:
        raise _Fault(f"{where}: category_id {short(category, 40)} is none of COCO's 80")
    if type(crowd) is not int or crowd not in (0, 1):
        raise _Fault(f"{where}: iscrowd is {short(crowd, 40)}, neither 0 nor 1")
    box = each.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)) or min(box[2:]) < 0:
        raise _Fault(f"{where}: bbox {short(box)} is not x, y, width, height")
    if not is_number(each.get("area")) or each["area"] < 0:
        raise _Fault(f"{where}: area is {short(each.get('area'), 40)}, no number of pixels")
    if not isinstance(each.get("segmentation"), (list, dict)):
        raise _Fault(f"{where}: segmentation is {short(each.get('segmentation'), 40)}, neither polygons nor RLE")


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number and a finite one; true and false are none."""
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _whole(where: str, key: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _Fault(f"{where}: {key} is {short(value, 40)}, not a whole number from {least} to {most}")
    return value

"""COCO's images as scenes: read, resized, with the things in them for calibration and training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitq.datasets.coco_annotations import CocoImage, read_annotations
from vitq.datasets.coco_shapes import mask, taught
from vitq.datasets.decoding import Unreadable, try_decode
from vitq.datasets.listing import Item
from vitq.datasets.scene_classes import COCO_INDEX
from vitq.datasets.scene_pixels import Pixels, as_image, dice_of, fitted, resized
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.datasets.scenes import Scene, Things
from vitq.errors import BadInputError


@dataclass(frozen=True)
class CocoReader:
    """Reads an image of COCO as a scene, with its things where `things`, and mirrored or not by `seed` where `flip`."""

    root: Path
    how: ScenePreprocessing
    things: bool = True
    flip: bool = False
    seed: int | None = None

    def __call__(self, item: Item) -> Scene | Unreadable:
        """The scene, its image as uint8, or why it cannot be read; BadInputError for annotations that draw nothing."""
        known, pixels = image_of(self.root, item), read_pixels(self.root, item)
        if isinstance(pixels, Unreadable):
            return pixels
        size = fitted((known.height, known.width), self.how.scale)
        small, flip = resized(pixels, size), self.flip and dice_of(self.seed, item).random() < 0.5
        things = things_of(known, size, flip) if self.things else None
        image = as_image(small[:, ::-1] if flip else small)
        return Scene(image, item.path, known.id, (known.height, known.width), things)


def image_of(root: Path, item: Item) -> CocoImage:
    """What the annotations say of an image; BadInputError where they have changed and list it no more."""
    known = read_annotations(root, item.path.partition("/")[0])
    if item.path not in known.images:
        raise BadInputError(f"{known.file} lists {item.path} no more: it was changed while it was read; start again")
    return known.images[item.path]


def read_pixels(root: Path, item: Item) -> Pixels | Unreadable:
    """An image's pixels [H, W, 3], or why it cannot be read or is not as large as its annotations say."""
    known, image = image_of(root, item), try_decode(root, item)
    if isinstance(image, Unreadable):
        return image
    if image.size != (known.width, known.height):
        said = f"it has {image.width} x {image.height} pixels, {known.width} x {known.height} by its annotations"
        return Unreadable(item.path, said)
    return np.asarray(image)


def things_of(known: CocoImage, size: tuple[int, int], flip: bool) -> Things:
    """The things of an image as they are taught, in pixels of an input of `size` [h, w].

    Boxes are scaled in float32 and cut at the borders, masks drawn at the image's own size and resized to the nearest
    pixel, as mmdet's `LoadAnnotations` and `Resize` do.
    """
    given = taught(known)
    boxes = torch.tensor([_corners(each["bbox"]) for each in given], dtype=torch.float32).view(-1, 4)
    down, along = size[0] / known.height, size[1] / known.width
    boxes *= torch.tensor([along, down, along, down])
    boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([size[1], size[0], size[1], size[0]]).float())
    drawn = [torch.from_numpy(resized(mask(each, known), size, nearest=True).copy()) for each in given]
    masks = torch.stack(drawn).bool() if drawn else torch.zeros(0, *size, dtype=torch.bool)
    if flip:
        boxes, masks = flipped_boxes(boxes, size[1]), masks.flip(-1)
    labels = torch.tensor([COCO_INDEX[each["category_id"]] for each in given], dtype=torch.long)
    return Things(boxes, labels, masks, torch.tensor([each["iscrowd"] == 1 for each in given], dtype=torch.bool))


def flipped_boxes(boxes: torch.Tensor, width: int) -> torch.Tensor:
    """Boxes [n, 4] of an image of `width` pixels, of the mirrored image."""
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)


def _corners(box: list[Any]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y + height]

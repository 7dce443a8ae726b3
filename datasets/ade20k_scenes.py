"""ADE20K's images as scenes: read with their label maps, resized, and cropped for training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vitq.datasets.ade20k import map_of
from vitq.datasets.decoding import Unreadable, try_decode, try_indices
from vitq.datasets.listing import Item
from vitq.datasets.scene_classes import ADE20K_CLASSES
from vitq.datasets.scene_pixels import Pixels, as_image, dice_of, fitted, resized
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.datasets.scenes import Scene

UNLABELLED = 255
CROP = (512, 512)
"""What is cut out to train on where the preprocessing names no crop, as mmsegmentation's configs for ADE20K do."""


def labels_of(root: Path, path: str, size: tuple[int, int]) -> Pixels | Unreadable:
    """Class indices [H, W] of the image of that path and size [H, W], or why its label map cannot be used."""
    image = try_indices(root, map_of(path))
    if isinstance(image, Unreadable):
        return image
    given = np.asarray(image)
    if given.shape != size:
        said = f"it has {given.shape[1]} x {given.shape[0]} pixels, its image {size[1]} x {size[0]}"
        return Unreadable(map_of(path), said)
    if given.max() > len(ADE20K_CLASSES):
        return Unreadable(map_of(path), f"it has label {given.max()}; 0 to {len(ADE20K_CLASSES)} are known")
    return np.where(given == 0, UNLABELLED, given - np.uint8(1)).astype(np.uint8)


@dataclass(frozen=True)
class MapReader:
    """Reads an image with its label map, which keeps the size it has on disk; `index` numbers images by path."""

    root: Path
    how: ScenePreprocessing
    index: Callable[[str], int]

    def pair(self, item: Item) -> tuple[Pixels, Pixels] | Unreadable:
        """Pixels [H, W, 3] and class indices [H, W] as they are on disk, or why one cannot be used."""
        image = try_decode(self.root, item)
        if isinstance(image, Unreadable):
            return image
        labels = labels_of(self.root, item.path, (image.height, image.width))
        return labels if isinstance(labels, Unreadable) else (np.asarray(image), labels)

    def __call__(self, item: Item) -> Scene | Unreadable:
        """The scene, its image as uint8, or why it cannot be read."""
        pair = self.pair(item)
        if isinstance(pair, Unreadable):
            return pair
        pixels, labels = pair
        size = labels.shape[0], labels.shape[1]
        image = as_image(resized(pixels, fitted(size, self.how.scale)))
        return Scene(image, item.path, self.index(item.path), size, label_map=torch.from_numpy(labels))


@dataclass(frozen=True)
class TrainingReader:
    """Reads what `reader` does to train on: image and label map resized alike, and where `light` mirrored and cropped.

    An image smaller than the crop is left as large as it is. What comes out is its own original.
    """

    reader: MapReader
    light: bool
    seed: int

    def __call__(self, item: Item) -> Scene | Unreadable:
        """The scene, its image as uint8, or why it cannot be read."""
        pair = self.reader.pair(item)
        if isinstance(pair, Unreadable):
            return pair
        size = fitted((pair[1].shape[0], pair[1].shape[1]), self.reader.how.scale)
        pixels, labels = resized(pair[0], size), resized(pair[1], size, nearest=True)
        if self.light:
            pixels, labels = self._cut(pixels, labels, item)
        label_map = torch.from_numpy(labels.copy())
        number = self.reader.index(item.path)
        return Scene(as_image(pixels), item.path, number, (label_map.shape[0], label_map.shape[1]), label_map=label_map)

    def _cut(self, pixels: Pixels, labels: Pixels, item: Item) -> tuple[Pixels, Pixels]:
        dice = dice_of(self.seed, item)
        if dice.random() < 0.5:
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        height, width = self.reader.how.crop or CROP
        top = dice.randint(0, max(0, labels.shape[0] - height))
        left = dice.randint(0, max(0, labels.shape[1] - width))
        cut = slice(top, top + height), slice(left, left + width)
        return pixels[cut], labels[cut]

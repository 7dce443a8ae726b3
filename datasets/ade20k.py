"""ADE20K for semantic segmentation: which images are used, what they are known by, opening them.

The folder is `ADEChallengeData2016` as it is unpacked: `<root>/images/validation/*.jpg` beside
`<root>/annotations/validation/*.png`, and `training` likewise. A label map holds 1 to 150 for the classes and 0 for
what is none of them: labels are one less, and 255 where a map has 0 (mmsegmentation's `reduce_zero_label`). A split's
order is by name. Lists and identities are made without torch; only opening imports it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vitq.datasets import folders, identity
from vitq.datasets.base import Check, Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.listing import Item
from vitq.datasets.scene_classes import ADE20K_CLASSES
from vitq.datasets.scene_folder import SceneFolder, for_scenes, root_of, split_among
from vitq.errors import BadInputError

if TYPE_CHECKING:
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.datasets.scene_pixels import MakeScene
    from vitq.datasets.scene_preprocessing import ScenePreprocessing
    from vitq.subject import Progress

SPLITS = ("validation", "training")


def map_of(path: str) -> str:
    """The path of an image's label map: `images/validation/x.jpg` has `annotations/validation/x.png`."""
    inside = PurePosixPath(path)
    return str(PurePosixPath("annotations", *inside.parts[1:]).with_suffix(".png"))


@dataclass(frozen=True)
class Ade20k:
    """ADE20K in its own layout; see `vitq.datasets.base.Dataset` and `vitq.datasets.scene_folder.Layout`."""

    name: str
    full_size: int | None = None
    task: str = "segmentation"
    packages: tuple[str, ...] = ("pillow", "opencv-python", "opencv-python-headless")
    modules: tuple[str, ...] = ("vitq.datasets.ade20k", "vitq.datasets.ade20k_scenes", "vitq.datasets.scene_data")
    classes: int = len(ADE20K_CLASSES)
    needs_folder: bool = True
    evaluated: str = "validation"
    trained: str = "training"

    def listing(self, root: Path, split: str) -> list[Item]:
        """Every image of a split, by name; BadInputError where the folder is missing, empty or holds what is none."""
        folder, left_out = root / "images" / split_among(split, SPLITS, self.name), folders.LeftOut()
        if not folder.is_dir():
            raise BadInputError(f"{root} has no folder images/{split}: put the images of {split} into {folder}")
        items = [Item(path, 0) for path in folders.images(folder, f"images/{split}", left_out)]
        if not items:
            raise BadInputError(f"{folder} holds no image ({', '.join(folders.SUFFIXES)})")
        left_out.warn(folder, f"images/{split}/")
        return items

    def split_of(self, path: str) -> str:
        """The second folder of its path."""
        parts = PurePosixPath(path).parts
        if len(parts) != 3 or parts[0] != "images":
            raise BadInputError(
                f"{self.name}: {path} is no path of an image, as images/validation/ADE_val_00000001.jpg is"
            )
        return split_among(parts[1], SPLITS, self.name)

    def known(self, root: Path, items: Sequence[Item]) -> list[str]:
        """sha256 of the label map of each image, in order."""
        return identity.content(root, [map_of(item.path) for item in items])

    def identity(
        self, places: Mapping[str, Path], *, limit: int | None, spec: Calibration, wants: Collection[str]
    ) -> dict[str, str]:
        """See `vitq.datasets.identity.data_identity`."""
        return SceneFolder(self, root_of(self.name, places)).identity(limit=limit, spec=spec, wants=wants)

    def open(
        self,
        how: Preprocessing | ScenePreprocessing,
        spec: Calibration,
        places: Mapping[str, Path],
        *,
        limit: int | None,
        seed: int,
        workers: int | None,
    ) -> Data:
        """Open it as a segmenter wants it; `seed` shuffles and augments training. BadInputError if it cannot be read.

        Training scenes are crops, and their own originals: image, label map and `Scene.original` are of one size.
        """
        from vitq.datasets.ade20k_scenes import MapReader, TrainingReader
        from vitq.datasets.scene_data import open_scenes

        scenes, root = for_scenes(how, self.name), root_of(self.name, places)
        order = cache(lambda split: {item.path: index for index, item in enumerate(self.listing(root, split))})
        reader = MapReader(root, scenes, lambda path: order(self.split_of(path))[path])

        def training(seed: int) -> MakeScene:
            return TrainingReader(reader, spec.augment != "none", seed)

        return open_scenes(
            SceneFolder(self, root), scenes, spec, limit=limit, seed=seed, workers=workers, taught=reader,
            evaluated=reader, training=training if (root / "images" / self.trained).is_dir() else None,
        )  # fmt: skip

    def verify(self, places: Mapping[str, Path], *, sample: int, tell: Progress, workers: int | None) -> list[Check]:
        """Counts, class order, maps that are missing, and `sample` pairs of a large split read."""
        from vitq.datasets.ade20k_verify import verify_ade20k

        try:
            root = root_of(self.name, places)
        except BadInputError as error:
            return [Check(self.name, False, str(error))]
        return verify_ade20k(self, root, sample, tell, workers)


ADE20K = Ade20k("ade20k", full_size=2000)

"""COCO 2017 for detection and instance segmentation: which images are used, what they are known by, opening them.

The folder is as COCO is: `<root>/annotations/instances_val2017.json` and `instances_train2017.json`, the images in
`<root>/val2017/` and `<root>/train2017/`. Labels are indices of the 80 categories in the order of their ids. A split's
order is that of its annotation file; an image without annotations is kept, for detections on it count against a model.
What is wrong with an annotation is refused where it is evaluated; see `coco_shapes` for boxes that are left out of
training. Lists and identities are made without torch; only opening imports it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.datasets.base import Check, Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.coco_annotations import read_annotations
from vitq.datasets.coco_shapes import check_evaluated
from vitq.datasets.listing import Item
from vitq.datasets.scene_classes import COCO_CATEGORIES
from vitq.datasets.scene_folder import SceneFolder, for_scenes, root_of, split_among
from vitq.errors import BadInputError

if TYPE_CHECKING:
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.datasets.scene_pixels import MakeScene
    from vitq.datasets.scene_preprocessing import ScenePreprocessing
    from vitq.subject import Progress

SPLITS = ("val2017", "train2017")


@dataclass(frozen=True)
class Coco:
    """COCO in its own layout; see `vitq.datasets.base.Dataset` and `vitq.datasets.scene_folder.Layout`."""

    name: str
    full_size: int | None = None
    task: str = "detection"
    packages: tuple[str, ...] = ("pillow", "opencv-python", "opencv-python-headless", "pycocotools")
    modules: tuple[str, ...] = ("vitq.datasets.coco", "vitq.datasets.coco_scenes", "vitq.datasets.scene_data")
    classes: int = len(COCO_CATEGORIES)
    needs_folder: bool = True
    evaluated: str = "val2017"
    trained: str = "train2017"

    def listing(self, root: Path, split: str) -> list[Item]:
        """Every image that the annotations of a split list, in their order; BadInputError where they are unreadable."""
        return [Item(path, 0) for path in read_annotations(root, split_among(split, SPLITS, self.name)).images]

    def split_of(self, path: str) -> str:
        """The first folder of its path."""
        return split_among(path.partition("/")[0], SPLITS, self.name)

    def known(self, root: Path, items: Sequence[Item]) -> list[str]:
        """sha256 of the annotations of each image, in order."""
        return [read_annotations(root, self.split_of(item.path)).images[item.path].sha256() for item in items]

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
        """Open it as a detector wants it; `seed` shuffles and mirrors training. BadInputError where it cannot be read.

        Calibration and training have things in their scenes; validation has them in `Data.truth` alone, unresized.
        """
        from vitq.datasets.coco_scenes import CocoReader
        from vitq.datasets.scene_data import open_scenes

        scenes, root = for_scenes(how, self.name), root_of(self.name, places)
        folder, known = SceneFolder(self, root), read_annotations(root, self.evaluated)
        for item in folder.limited(limit):
            check_evaluated(known.images[item.path])

        def training(seed: int) -> MakeScene:
            return CocoReader(root, scenes, flip=spec.augment != "none", seed=seed)

        return open_scenes(
            folder, scenes, spec, limit=limit, seed=seed, workers=workers,
            taught=CocoReader(root, scenes), evaluated=CocoReader(root, scenes, things=False),
            training=training if (root / self.trained).is_dir() else None, truth=known.truth,
        )  # fmt: skip

    def verify(self, places: Mapping[str, Path], *, sample: int, tell: Progress, workers: int | None) -> list[Check]:
        """Counts, categories, files that are missing, and `sample` images of a large split read."""
        from vitq.datasets.coco_verify import verify_coco

        try:
            root = root_of(self.name, places)
        except BadInputError as error:
            return [Check(self.name, False, str(error))]
        return verify_coco(self, root, sample, tell, workers)


COCO_2017 = Coco("coco-2017", full_size=5000)

"""ImageNet as folders of a class each: `<root>/train/<synset>/*.JPEG` and `<root>/val/<synset>/*.JPEG`.

Class indices come from timm's synset list and never from the folders that are there, so that a folder with only some
of the classes is labelled right. What is drawn from a split (a calibration set, a limit) is a pure function of the seed
and the sorted names of its files: ImageNet's file names cannot be shipped with a suite, so the drawn list itself is
handed out with the data and stored in the record, and can be given back as a calibration list.

Lists and identities are made without torch; only opening imports it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.datasets import attribution, folders, identity
from vitq.datasets.base import Check, Data
from vitq.datasets.calibration import NOTHING, Calibration, enough, read_list
from vitq.datasets.image_lists import ImageLists
from vitq.datasets.listing import Item, draw, stratified
from vitq.errors import BadInputError
from vitq.words import close, nearest

if TYPE_CHECKING:
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.subject import Progress

ATTRIBUTION = attribution.ATTRIBUTION
SUBSET_SEED = 0
"""Every cell of a limited run is evaluated on the same images, whatever its own seed."""


@cache
def classes() -> dict[str, int]:
    """Synset to class index of ImageNet-1k, 1000 of them, from the list that timm packages; timm is not imported."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        raise BadInputError("timm is not installed: install vitq with its dependencies")
    path = Path(spec.submodule_search_locations[0]) / "data" / "_info" / "imagenet_synsets.txt"
    synsets = path.read_text(encoding="utf-8").split()
    if len(synsets) != 1000:
        raise BadInputError(f"{path} lists {len(synsets)} synsets, not 1000: install timm again")
    return {synset: index for index, synset in enumerate(synsets)}


def listing(root: Path, split: str) -> list[Item]:
    """Every image of a split, sorted by path, labelled by its synset folder.

    Raises BadInputError when a folder is missing, empty, not sorted by class, or named for no ImageNet-1k synset; warns
    of files that are left out.
    """
    folder, left_out = root / split, folders.LeftOut()
    if not root.is_dir():
        raise BadInputError(f"data set folder {root} is not there: correct the site file, [datasets]")
    if not folder.is_dir():
        raise BadInputError(f"{root} has no folder {split}: images belong in {folder}/<synset>/")
    synsets = folders.class_folders(folder, split, left_out)
    if not synsets:
        raise _unsorted(folder)
    _all_known(folder, synsets)
    items = [
        Item(path, classes()[synset])
        for synset in synsets
        for path in folders.images(folder / synset, f"{split}/{synset}", left_out)
    ]
    if not items:
        raise BadInputError(f"{folder} holds synset folders but no image ({', '.join(folders.SUFFIXES)}) in them")
    left_out.warn(folder, f"{split}/<synset>/")
    return items


def _unsorted(folder: Path) -> BadInputError:
    flat = sum(entry.name.lower().endswith(folders.SUFFIXES) for entry in folders.entries(folder))
    if flat:
        return BadInputError(
            f"{folder} is not sorted by class: {flat} images lie in it directly; move each into its synset folder "
            f"({folder}/n01440764/ and so on, by the validation ground truth)"
        )
    return BadInputError(f"{folder} is empty: images belong in {folder}/<synset>/")


def _all_known(folder: Path, synsets: Sequence[str]) -> None:
    for synset in synsets:
        if synset not in classes():
            hint = (
                nearest(synset, classes()) if close(synset, classes()) else "folders are named by synset, as n01440764"
            )
            raise BadInputError(f"{synset!a} in {folder} is named for no ImageNet-1k synset; {hint}")


def limited(root: Path, limit: int | None) -> list[Item]:
    """The images to evaluate on: all of `val`, or a stratified subset of so many."""
    every = listing(root, "val")
    return every if limit is None else stratified(every, limit, SUBSET_SEED)


def calibration(root: Path, spec: Calibration) -> list[Item]:
    """The images to calibrate on, in order, as `spec.list` says; BadInputError where there are too few of them."""
    if spec.list == NOTHING:
        return []
    if spec.list == "seeded":
        return enough(draw(listing(root, spec.split or "train"), spec.images, spec.seed), spec)
    if spec.list == "first":
        return enough(listing(root, spec.split or "train")[: spec.images], spec)
    return enough([_item(root, path) for path in _named(root, spec)[: spec.images]], spec)


def source(root: Path, spec: Calibration) -> object:
    """Where the calibration images come from: the split of a draw or of its first images, or all names of a list."""
    return spec.taken("train") or _named(root, spec)


def _named(root: Path, spec: Calibration) -> list[str]:
    """All names of a list that is not drawn."""
    return attribution.ordered(root) if spec.list == "attribution" else read_list(Path(spec.list))


def _item(root: Path, path: str) -> Item:
    synset = Path(path).parent.name
    if synset not in classes():
        raise BadInputError(f"calibration: {path} does not lie in a synset folder")
    try:
        found = (root / path).is_file()
    except OSError:  # a name too long, a link in a circle
        found = False
    if not found:
        raise BadInputError(f"calibration: {root / path} is not there, or not a regular file")
    return Item(path, classes()[synset])


def content(root: Path, items: Sequence[Item]) -> list[str]:
    """sha256 of each image file; BadInputError where one cannot be read."""
    return identity.content(root, [item.path for item in items])


@dataclass(frozen=True)
class ImageFolder:
    """A data set of ImageNet's layout and labels; `full_size` where its validation split must be complete."""

    name: str
    full_size: int | None = None
    task: str = "classification"
    packages: tuple[str, ...] = ("pillow", "torchvision", "timm")
    modules: tuple[str, ...] = ("vitq.datasets.imagenet", "vitq.datasets.image_folder", "vitq.datasets.images")
    classes: int = 1000
    needs_folder: bool = True

    def root(self, places: Mapping[str, Path]) -> Path:
        """Its folder; BadInputError where the site file names none."""
        if self.name not in places:
            raise BadInputError(
                f"the folder of data set {self.name} is not known: "
                f'add {self.name} = "/path/to/it" under [datasets] in the site file'
            )
        return places[self.name]

    def lists(self, places: Mapping[str, Path], trains: bool = True) -> ImageLists:
        """What is read of its folder, of which `train` is a part where it `trains`."""
        root = self.root(places)
        return ImageLists(
            root,
            self.classes,
            evaluated=lambda limit: limited(root, limit),
            calibrated=lambda spec: calibration(root, spec),
            source=lambda spec: source(root, spec),
            training=(lambda: listing(root, "train")) if trains else None,
        )

    def identity(
        self, places: Mapping[str, Path], *, limit: int | None, spec: Calibration, wants: Collection[str]
    ) -> dict[str, str]:
        """See `vitq.datasets.identity.data_identity`."""
        return self.lists(places).identities(limit=limit, spec=spec, wants=wants)

    def open(
        self,
        how: Preprocessing,
        spec: Calibration,
        places: Mapping[str, Path],
        *,
        limit: int | None,
        seed: int,
        workers: int | None,
    ) -> Data:
        """Open it as a model wants it; `seed` shuffles and augments training. BadInputError where it cannot be read."""
        from vitq.datasets.image_folder import open_folder

        trains = (self.root(places) / "train").is_dir()
        return open_folder(self.lists(places, trains), how, spec, limit=limit, seed=seed, workers=workers)

    def verify(self, places: Mapping[str, Path], *, sample: int, tell: Progress, workers: int | None) -> list[Check]:
        """Counts, classes, and `sample` files of a large one read; what is wrong is a check that is not ok."""
        from vitq.datasets.verify import verify_folder

        try:
            root = self.root(places)
        except BadInputError as error:
            return [Check(self.name, False, str(error))]
        return verify_folder(self.name, root, sample, tell, workers)


IMAGENET_1K = ImageFolder("imagenet-1k", full_size=50_000)
IMAGENET_PROXY = ImageFolder("imagenet-proxy")

"""A folder of one's own images: class folders of any names, or labels in a CSV; read without torch.

Labels are places in the sorted names of the classes, or in an order that is given. Where every class folder is named by
an ImageNet synset and the model tells 1000 classes apart, they are ImageNet's indices.

With `train/` and `val/`, calibration and training images come from `train` and everything in `val` is evaluated. In a
flat folder a fixed part is held out of evaluation to calibrate and train on: a fifth of the images, at least 32 and at
most 1024, in every class in proportion, chosen by the names alone, so that every method, and the FP32 model, is
evaluated on the same images. Where fewer than 32 would be left nothing is held out: calibration images are drawn from
those that are evaluated, and that is said.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.datasets import imagenet, own_labels, own_layout
from vitq.datasets.base import Check, Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.image_lists import ImageLists
from vitq.datasets.listing import Item, is_plain, stratified
from vitq.datasets.own_layout import CALIBRATION, TRAIN, VAL
from vitq.datasets.own_parts import calibrated, default_part, held_out, named, tell_held_out
from vitq.datasets.registry import DATASETS
from vitq.errors import BadInputError
from vitq.words import short

if TYPE_CHECKING:
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.datasets.scene_preprocessing import ScenePreprocessing
    from vitq.subject import Progress

_SUBSET_SEED = 0
"""Every cell of a limited run is evaluated on the same images, whatever its own seed."""


@dataclass(frozen=True)
class OwnFolder:
    """A data set of a user's own; its folder is named in the places, as that of any other.

    `names` are the classes in the order of their labels; `labels` is the CSV that gives them, None for class folders.
    `by_index`: the CSV gives indices alone, so that there may be more classes than `names`. `ordered` says that the
    order of the names was given and is not that of sorting. `hold_out` says whether
    calibration images of a flat folder are kept out of evaluation. `model_classes` is how many classes the model tells
    apart, once it is known (`of_classes`).
    """

    name: str
    names: tuple[str, ...]
    labels: Path | None = None
    by_index: bool = False
    ordered: bool = False
    hold_out: bool = True
    model_classes: int | None = None
    task: str = "classification"
    full_size: int | None = None
    packages: tuple[str, ...] = ("pillow", "torchvision", "timm")
    modules: tuple[str, ...] = ("vitq.datasets.own", "vitq.datasets.image_folder", "vitq.datasets.images")
    needs_folder: bool = True

    @property
    def classes(self) -> int:
        """How many a model tells apart."""
        return self.model_classes or len(self.names)

    def of_classes(self, count: int) -> OwnFolder:
        """The same for a model that tells so many classes apart; BadInputError where the labels cannot be its own."""
        fits = count == len(self.names) or (self.by_index and count > len(self.names))
        if not fits and not (count == len(imagenet.classes()) and self._synsets()):
            raise BadInputError(
                f"data set {self.name} has {len(self.names)} classes ({_few(self.names)}), but the model tells {count} "
                "apart: give its own classes in order (--classes FILE), or a model of as many"
            )
        return replace(self, model_classes=count)

    def _synsets(self) -> bool:
        return all(name in imagenet.classes() for name in self.names)

    def root(self, places: Mapping[str, Path]) -> Path:
        """Its folder; BadInputError where none is named."""
        if self.name not in places:
            raise BadInputError(f"the folder of data set {self.name} is not known: name it")
        return places[self.name]

    def parts(self, root: Path) -> dict[str, list[Item]]:
        """Its images by part: `train` and `val`, or of a flat folder `val` and, where any are held out, `calibration`.

        BadInputError where a folder or a label is not as it should be.
        """
        own_layout.check_root(root)
        if self.labels is not None:
            items = own_labels.read_labels(self.labels, root, None if self.by_index else self.names).items
            return own_layout.by_folder(items) or held_out(list(items), self.hold_out)
        split = own_layout.splits(root)
        found = {name: own_layout.listing(root, folder, self.names) for name, folder in split.items()}
        return found if TRAIN in found else held_out(found[VAL], self.hold_out)

    def lists(self, root: Path) -> ImageLists:
        """What is read of its folder, as it is now."""
        parts = self.parts(root)
        training = next((parts[name] for name in (TRAIN, CALIBRATION) if name in parts), None)
        known = imagenet.classes() if self.model_classes == len(imagenet.classes()) and self._synsets() else None
        return ImageLists(
            root,
            self.classes,
            evaluated=lambda limit: parts[VAL] if limit is None else stratified(parts[VAL], limit, _SUBSET_SEED),
            calibrated=lambda spec: calibrated(root, parts, spec),
            source=lambda spec: spec.taken(default_part(parts)) or named(root, spec),
            training=None if training is None else lambda: training,
            indices=None if known is None else tuple(known[name] for name in self.names),
        )

    def identity(
        self, places: Mapping[str, Path], *, limit: int | None, spec: Calibration, wants: Collection[str]
    ) -> dict[str, str]:
        """See `vitq.datasets.identity.data_identity`; the names of the classes are paths' or the CSV's."""
        return self.lists(self.root(places)).identities(limit=limit, spec=spec, wants=wants)

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
        """Open it as a model wants it; `seed` shuffles and augments training. BadInputError where it cannot be read."""
        from vitq.datasets.image_folder import open_folder
        from vitq.datasets.preprocessing import Preprocessing

        if not isinstance(how, Preprocessing):
            raise BadInputError(f"{self.name} holds images of a class each: give a classifier")
        root = self.root(places)
        if not self.ordered and not self.by_index:
            own_layout.warn_of_order(self.names)
        tell_held_out(self.name, self.parts(root))
        lists = self.lists(root)
        return open_folder(lists, how, spec, limit=limit, seed=seed, workers=workers)

    def verify(self, places: Mapping[str, Path], *, sample: int, tell: Progress, workers: int | None) -> list[Check]:
        """Counts, classes, and `sample` files of a large one read; what is wrong is a check that is not ok."""
        from vitq.datasets.verify import verify_parts

        try:
            root = self.root(places)
            parts = self.parts(root)
        except BadInputError as error:
            return [Check(self.name, False, str(error))]
        return verify_parts(self.name, root, parts, len(self.names), sample, tell, workers)


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def own_dataset(
    path: Path,
    labels: Path | None = None,
    name: str | None = None,
    *,
    classes: Path | None = None,
    hold_out: bool = True,
) -> OwnFolder:
    """A user's folder as a data set, looked at and named (by default for the folder).

    `labels` is a CSV of image and label; `classes` a file of the classes' names in the order of their indices, for a
    model whose order is not the sorted one. BadInputError, in one line, for what cannot be used; no image is opened.
    """
    root = Path(path)
    order = None if classes is None else own_labels.read_classes(Path(classes))
    by_index = False
    own_layout.check_root(root)
    if labels is not None:
        labels = Path(labels).absolute()
        found = own_labels.read_labels(labels, root, order)
        names, by_index = found.names, found.by_index
    else:
        names = order or own_layout.class_names(root)
    dataset = OwnFolder(_name_of(root, name), names, labels, by_index, order is not None, hold_out)
    dataset.parts(root)
    return dataset


def _name_of(root: Path, name: str | None) -> str:
    """The name that is given, or the folder's, made another where a data set of ours or of a package has it."""
    if name is None:
        name = root.resolve().name or "own"
        name = _free(name)
    if not name.strip() or not is_plain(name) or "/" in name:
        raise BadInputError(f"{short(name)} cannot name a data set: give a name without slashes and control characters")
    return name


def own_data(
    given: str | Path,
    *,
    labels: Path | None = None,
    name: str | None = None,
    classes: Path | None = None,
    hold_out: bool = True,
    hub: bool = True,
) -> tuple[OwnFolder, Path]:
    """What a user names by `--data` as a data set, and the folder that stands under its name in the places.

    A folder is looked at as `own_dataset` does; `hf:owner/name[:config]`, and a folder that Hugging Face's package
    wrote, are written out first (`hugging_face`); `hub` says whether the hub may be asked. BadInputError, in one line,
    for what cannot be used.
    """
    from vitq.datasets import hugging_face

    if not hugging_face.is_hugging_face(given):
        return own_dataset(Path(given), labels, name, classes=classes, hold_out=hold_out), Path(given)
    if labels is not None:
        raise BadInputError(f"{given} has labels of its own: leave {labels} out")
    if str(given).startswith(hugging_face.PREFIX) and not hub:
        raise BadInputError(f"{given} is of the hub, which the site file does not allow (hub = false)")
    folder, names = hugging_face.written_out(given)
    names = names if classes is None else own_labels.read_classes(Path(classes))
    title = name or str(given).removeprefix(hugging_face.PREFIX).rstrip("/").rpartition("/")[2].replace(":", "-")
    csv = folder / hugging_face.LABELS
    dataset = OwnFolder(_name_of(folder, _free(title)), names, csv, ordered=True, hold_out=hold_out)
    dataset.parts(folder)
    return dataset, folder


def _free(name: str) -> str:
    """The name, made another where a data set of ours or of a package has it."""
    taken = name in DATASETS.names() and name not in DATASETS.registered
    return f"own-{name}" if taken else name

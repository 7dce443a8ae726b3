"""What a caller gives as data, opened: a tensor, a loader, a folder of images, or the name of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitq.api.meanings import dataset_of
from vitq.errors import BadInputError

if TYPE_CHECKING:
    from vitq.api.given_model import Given
    from vitq.datasets.base import Data
    from vitq.datasets.calibration import Calibration

KINDS = "a tensor [N, 3, H, W], a loader of images or (images, labels), a folder of images, or a data set's name"
Use = Literal["calibration", "evaluation", "training"]


@dataclass(frozen=True)
class Reading:
    """How data is read: the settings of a suite's `calibration`, a CSV of labels, the file of the classes' order, a
    limit, a batch to evaluate."""

    calibration: Mapping[str, Any]
    labels: Path | None = None
    classes: Path | None = None
    limit: int | None = None
    batch: int = 64
    seed: int = 0

    @property
    def spec(self) -> Calibration:
        """The settings; BadInputError for one that is none."""
        from vitq.datasets.calibration import Calibration

        return Calibration.parse(self.calibration)


def reading_of(
    settings: Mapping[str, Any],
    labels: str | Path | None,
    classes: str | Path | None,
    limit: int | None = None,
    *,
    batch: int = 64,
    seed: int = 0,
) -> Reading:
    """How data is read, as the words of a function of the interface say it."""
    table, order = (None if each is None else Path(each) for each in (labels, classes))
    return Reading(settings, table, order, limit, batch, seed)


def given_data(data: Any, given: Given, how: Reading, use: Use, *, strict: bool = True) -> Data:
    """The data as a task hands it on; BadInputError, in one line, for what cannot be used.

    `strict`: labels have to be ones that the model can tell; images to calibrate on may be of other classes.
    """
    if isinstance(data, (str, Path)):
        return _named(data, given, how, use, strict)
    if how.classes is not None:
        raise BadInputError(
            "classes= names a folder's classes in order: labels of a tensor or loader are indices already"
        )
    if given.task.name != "classification":
        raise BadInputError(f"{given.loaded.name} is for {given.task.name}: give the name of a data set of that task")
    from vitq.datasets.in_memory import in_memory
    from vitq.datasets.preprocessing import Preprocessing

    prepared = given.loaded.preprocessing
    assert isinstance(prepared, Preprocessing)
    opened = in_memory(
        data, prepared, how.batch, calibration=how.spec, classes=given.classes if strict else None, seed=how.seed,
        use="both" if use == "training" else use,
    )  # fmt: skip
    return opened if how.limit is None else _limited(opened, how.limit)


def no_data() -> Data:
    """The data of a caller who gives none: there is nothing to read, nor to look at."""
    from vitq.datasets.base import Data

    def none() -> Iterator[Any]:
        return iter(())

    return Data(calibration=none, training=None, validation=none, n_validation=0, sha256="")


def given_training(data: Any, given: Given, how: Reading) -> Callable[[int], Iterator[Any]] | None:
    """The training batches of an epoch; None where the data has none."""
    from vitq.datasets.in_memory import epochs
    from vitq.datasets.preprocessing import Preprocessing

    prepared = given.loaded.preprocessing
    if isinstance(data, (str, Path)) or is_whole(data) or not isinstance(prepared, Preprocessing):
        return given_data(data, given, how, "training").training
    return epochs(data, prepared, given.classes)


def is_whole(data: Any) -> bool:
    """Whether data is one tensor, or one pair of images and labels."""
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return all(hasattr(part, "ndim") for part in data) and data[0].ndim == 4 and data[1].ndim == 1
    return hasattr(data, "ndim") and not isinstance(data, (tuple, list))


def _named(data: str | Path, given: Given, how: Reading, use: Use, strict: bool) -> Data:
    from vitq.datasets.hugging_face import is_hugging_face
    from vitq.datasets.registry import DATASETS
    from vitq.words import unknown

    name = dataset_of(data)
    if name is not None:
        for word in ("classes", "labels"):
            if getattr(how, word) is not None:
                raise BadInputError(f"{word}= is of a folder of your own: data set {name} knows its {word}")
        return _open(DATASETS.load(name), given, how, use)
    if isinstance(data, str) and not (is_hugging_face(data) or Path(data).exists() or "/" in data):
        raise BadInputError(f"{unknown('data set', data, DATASETS.names())}, and no folder is there either")
    return _folder(data, given, how, use, strict)


def _folder(data: str | Path, given: Given, how: Reading, use: Use, strict: bool) -> Data:
    """A folder of one's own, or a data set of Hugging Face's; images without labels may calibrate."""
    from vitq.datasets.own import own_data
    from vitq.datasets.unlabelled import is_flat, unlabelled

    if given.task.name != "classification":
        raise BadInputError(f"{given.loaded.name} is for {given.task.name}: a folder of images is for classification")
    if use == "calibration" and how.labels is None and is_flat(Path(data)):
        return unlabelled(Path(data), given.loaded.preprocessing, how.spec, workers=given.places.workers)
    own, path = own_data(data, labels=how.labels, classes=how.classes, hub=given.places.hub)
    places = replace(given.places, datasets={**given.places.datasets, own.name: path})
    if use == "calibration" and not strict:
        try:
            return _open(own, replace(given, places=places), how, use)
        except BadInputError:
            if given.classes == len(own.names):
                raise
            return unlabelled(path, given.loaded.preprocessing, how.spec, workers=given.places.workers)
    return _open(own, replace(given, places=places), how, use)


def _open(dataset: Any, given: Given, how: Reading, use: Use) -> Data:
    from vitq.datasets.calibration import NOTHING

    settings = {"list": NOTHING} if use == "evaluation" else dict(how.calibration)
    return given.task.open_dataset(
        dataset, given.loaded, given.places, limit=how.limit, seed=how.seed, calibration=settings
    )


def _limited(data: Data, limit: int) -> Data:
    """The first samples of what is in memory."""
    from vitq.datasets.identity import check_limit

    check_limit(limit)

    def first() -> Iterator[Any]:
        left = limit
        for images, labels in data.validation():
            yield images[:left], labels[:left]
            left -= len(images)
            if left <= 0:
                return

    count = min(limit, data.n_validation)
    return replace(data, validation=first, n_validation=count, names=tuple(data.names)[:count])

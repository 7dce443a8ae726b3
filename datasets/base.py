"""What a data set offers, and what it hands on when it is opened; read without torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from vitq.datasets.calibration import Calibration

if TYPE_CHECKING:
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.datasets.scene_preprocessing import ScenePreprocessing
    from vitq.subject import Progress


@dataclass(frozen=True)
class Check:
    """One thing looked at: what, whether it is as it should be, and one line that says what was found."""

    name: str
    ok: bool
    message: str


@dataclass(frozen=True)
class Data:
    """A data set opened for one cell: fresh, deterministic iterators over batches, and identities of what they read.

    `subset` and `calibration_list` are the images a limit left and the images calibrated on, one name a line (a path
    relative to the data set's folder, or an index); a record keeps them, and they can be read back as a calibration
    list. `sha256` is of the names, labels and content of the images that validation reads, as `Dataset.identity` gives
    it under `validation`; `names` are those images in the order they are read. `calibration_overlap` is how many of the
    calibration images are among them. `truth` tells what a detection data set has in those images, as a COCO file says
    it: `images` (in the same order), `annotations` and `categories`, whose sorted ids are the labels 0, 1, ...
    `batch` is how many images a validation batch has, but for the last; `between` reads the batches of these two
    numbers, the second left out, and no others: None where that cannot be.
    """

    calibration: Callable[[], Iterator[Any]]
    training: Callable[[int], Iterator[Any]] | None
    validation: Callable[[], Iterator[Any]]
    n_validation: int
    sha256: str
    subset: str | None = None
    calibration_list: str = ""
    names: Sequence[str] = ()
    calibration_overlap: int = 0
    truth: Callable[[], Mapping[str, Any]] | None = None
    batch: int = 0
    between: Callable[[int, int], Iterator[Any]] | None = None


class Dataset(Protocol):
    """A data set; its module imports without torch. The properties may be plain attributes."""

    @property
    def name(self) -> str:
        """What it is called in suites and tables."""

    @property
    def task(self) -> str:
        """The task that it is for."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions whose versions decide what is read."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules of vitq, or of the package that offers the data set, whose code decides what is read."""

    @property
    def classes(self) -> int:
        """How many classes there are."""

    @property
    def full_size(self) -> int | None:
        """How many images the whole validation split has; None where a folder may hold any number."""

    @property
    def needs_folder(self) -> bool:
        """Whether the site file, or whoever registers it, has to name a folder."""

    def identity(
        self, places: Mapping[str, Path], *, limit: int | None, spec: Calibration, wants: Collection[str]
    ) -> dict[str, str]:
        """See `vitq.datasets.identity.data_identity`."""

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

    def verify(self, places: Mapping[str, Path], *, sample: int, tell: Progress, workers: int | None) -> list[Check]:
        """Counts, classes, and `sample` files of a large one read; what is wrong is a check that is not ok."""


@runtime_checkable
class ByClasses(Protocol):
    """A data set whose labels depend on how many classes a model tells apart, as a folder of one's own is."""

    def of_classes(self, count: int) -> Dataset:
        """The same for a model that tells so many apart; BadInputError where the labels cannot be that model's."""

"""What a cell reads of a data set, by content: sha256 of names, labels and bytes; read without torch.

    validation   names, labels and content of exactly the images that validation reads
    subset       `all`, or sha256 of the list that a limit takes
    calibration  where wanted: names, labels and content of the calibration images in their order, their batch size, and
                 the list they were taken from
    training     where wanted: names, labels and content of the training split, its batch size and augmentation

So a changed byte of an image that is used, another order of the calibration list or a shorter one changes it, and a
file that is not read (`.DS_Store`, an image a limit leaves out) does not. Content digests are remembered between runs
(`vitq.digests`).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitq.datasets.calibration import Calibration
from vitq.datasets.listing import Item, as_text
from vitq.digests import files_sha256
from vitq.errors import BadInputError

ContentOf = Callable[[Sequence[Item]], Sequence[str]]
"""Content digests of items, in their order."""


def data_identity(
    name: str,
    places: Mapping[str, Path],
    *,
    limit: int | None = None,
    calibration: Mapping[str, Any] | None = None,
    wants: Collection[str] = (),
) -> dict[str, str]:
    """Identities of what a cell reads, by the keys above; `wants` may hold `calibration` and `training`.

    Raises BadInputError for an unknown data set, one without a folder, a limit below 1, a list or image that is
    missing or cannot be read.
    """
    from vitq.datasets.registry import load

    unknown = set(wants) - {"calibration", "training"}
    if unknown:
        raise ValueError(f"identities of {', '.join(sorted(unknown))} are not known; calibration and training are")
    check_limit(limit)
    spec = Calibration.parse(calibration or {})
    with warnings.catch_warnings():  # what opening the data warns of is said there, and kept in the record
        warnings.simplefilter("ignore", UserWarning)
        return load(name).identity(places, limit=limit, spec=spec, wants=wants)


def check_limit(limit: int | None) -> None:
    """BadInputError for a limit that leaves no image."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise BadInputError(f"limit is {limit}, but at least 1 image is needed")


def content(root: Path, paths: Sequence[str]) -> list[str]:
    """sha256 of each file of a data set's folder; BadInputError where one cannot be read."""
    files = [root / path for path in paths]
    try:
        known = files_sha256(files)
    except OSError as error:
        raise BadInputError(f"cannot read {error.filename or root}: {error.strerror}; put it back") from None
    return [known[file] for file in files]


def validation_sha256(items: Sequence[Item], digests: Sequence[str]) -> str:
    """Of the names, labels and content of these images, whatever their order."""
    pairs = sorted(zip(items, digests, strict=True))
    return of_images([item for item, _ in pairs], [digest for _, digest in pairs])


def of_images(items: Sequence[Item], digests: Sequence[str], *also: object) -> str:
    """Of the names, labels and content of images in their order, and of what else decides."""
    digest = hashlib.sha256(repr(also).encode())
    for item, sha256 in zip(items, digests, strict=True):
        digest.update(f"\n{item.path}\0{item.label}\0{sha256}".encode())
    return digest.hexdigest()


def subset_sha256(chosen: Sequence[Item], limit: int | None) -> str:
    """`all`, or sha256 of the names that a limit takes."""
    return "all" if limit is None else hashlib.sha256(as_text(chosen).encode()).hexdigest()


def identities(
    chosen: Sequence[Item],
    content: ContentOf,
    *,
    limit: int | None,
    spec: Calibration,
    wants: Collection[str],
    calibration: Callable[[], Sequence[Item]],
    source: Callable[[], object],
    training: Callable[[], Sequence[Item]],
) -> dict[str, str]:
    """The identities by key; the lists that are not wanted are not asked for."""
    found = {"validation": validation_sha256(chosen, content(chosen)), "subset": subset_sha256(chosen, limit)}
    if "calibration" in wants:
        items = calibration()
        found["calibration"] = of_images(items, content(items), "batch", spec.batch, "source", source())
    if "training" in wants:
        items = training()
        found["training"] = of_images(items, content(items), "batch", spec.train_batch, "augment", spec.augment)
    return found

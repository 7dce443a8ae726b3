"""Checks of COCO's folder before hours are spent: counts, categories, annotations, and images that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.datasets import folders
from vitq.datasets.base import Check
from vitq.datasets.coco_annotations import CocoAnnotations, read_annotations
from vitq.datasets.coco_scenes import read_pixels
from vitq.datasets.coco_shapes import box_fault, check_evaluated, taught
from vitq.datasets.readable import readable
from vitq.errors import BadInputError
from vitq.subject import Progress

if TYPE_CHECKING:
    from vitq.datasets.coco import Coco

COUNTS = {"val2017": (5000, 36_781), "train2017": (118_287, 860_001)}
"""Images and annotations of COCO 2017."""


def verify_coco(dataset: Coco, root: Path, sample: int, tell: Progress, workers: int | None) -> list[Check]:
    """Checks of both splits; one that nobody has to have, the training split, may be missing as a whole."""
    checks = _split(dataset, root, dataset.evaluated, sample, tell, workers)
    file = root / "annotations" / f"instances_{dataset.trained}.json"
    if file.exists() or (root / dataset.trained).exists():
        return checks + _split(dataset, root, dataset.trained, sample, tell, workers)
    said = f"not there: nothing can be trained, and calibration images come from {dataset.evaluated}"
    return [*checks, Check(f"{dataset.name}: {dataset.trained}", True, said)]


def _split(dataset: Coco, root: Path, split: str, sample: int, tell: Progress, workers: int | None) -> list[Check]:
    name = f"{dataset.name}: {split}"
    try:
        known = read_annotations(root, split)
    except BadInputError as error:
        return [Check(f"{name} annotations", False, str(error))]
    items = dataset.listing(root, split)
    checks = [_counts(f"{name} annotations", known, COUNTS[split] if dataset.full_size else None)]
    checks.append(_shapes(f"{name} shapes", known, split == dataset.evaluated))
    checks.append(_files(f"{name} files", root / split, [Path(item.path).name for item in items]))
    if checks[-1].ok:
        checks.append(readable(f"{name} images", items, lambda item: read_pixels(root, item), sample, tell, workers))
    return checks


def _counts(name: str, known: CocoAnnotations, whole: tuple[int, int] | None) -> Check:
    images = known.images.values()
    crowds = sum(annotation["iscrowd"] for image in images for annotation in image.annotations)
    empty = sum(not image.annotations for image in images)
    said = f"{len(images)} images ({empty} with nothing in them), {known.count} annotations ({crowds} of crowds)"
    said += f", {len(known.categories)} categories in COCO's order"
    if whole and whole != (len(images), known.count):
        return Check(name, False, f"{said}; COCO 2017 has {whole[0]} images and {whole[1]} annotations")
    return Check(name, True, said)


def _shapes(name: str, known: CocoAnnotations, evaluated: bool) -> Check:
    """Every box, polygon and RLE; boxes without area fail where they are evaluated, and are counted elsewhere."""
    try:
        for image in known.images.values():
            check_evaluated(image) if evaluated else taught(image)
    except BadInputError as error:
        return Check(name, False, str(error))
    left = sum(box_fault(a, image) is not None for image in known.images.values() for a in image.annotations)
    said = f"{known.count} annotations can be drawn"
    return Check(
        name, True, f"{said} but {left}, whose boxes have no area: they are left out of training" if left else said
    )


def _files(name: str, folder: Path, wanted: Sequence[str]) -> Check:
    try:
        there = {entry.name for entry in folders.entries(folder)}
    except BadInputError as error:
        return Check(name, False, str(error))
    missing = [each for each in wanted if each not in there]
    if missing:
        return Check(
            name, False, f"{len(missing)} of {len(wanted)} images are not in {folder}, the first is {missing[0]}"
        )
    more = sum(each.lower().endswith(folders.SUFFIXES) for each in there - set(wanted))
    return Check(
        name, True, f"all {len(wanted)} images are there" + (f", and {more} that are not listed" if more else "")
    )

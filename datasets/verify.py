"""Checks of a folder of images before hours are spent: counts, classes, and images that can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from vitq.datasets import attribution, imagenet
from vitq.datasets.base import Check
from vitq.datasets.decoding import try_decode
from vitq.datasets.listing import Item
from vitq.datasets.readable import readable
from vitq.errors import BadInputError
from vitq.subject import Progress

FULL_COUNTS = {"val": 50_000, "train": 1_281_167}
"""Images of ILSVRC-2012, all 1000 classes of them in both splits."""


def verify_folder(dataset: str, root: Path, sample: int, tell: Progress, workers: int | None = None) -> list[Check]:
    """Checks of an ImageNet-like folder: counts and classes of both splits, ATTRIBUTION.csv if any, readable files."""
    checks, listed = [], {}
    for split in ("val", "train"):
        try:
            listed[split] = imagenet.listing(root, split)
            checks.append(_counts(dataset, split, listed[split]))
        except BadInputError as error:
            checks.append(Check(f"{dataset}: {split}", False, str(error)))
    if (root / imagenet.ATTRIBUTION).exists() and len(listed) == 2:
        checks.append(_attribution(dataset, root, [item for items in listed.values() for item in items]))
    for split, items in listed.items():
        read = partial(try_decode, root)
        checks.append(readable(f"{dataset}: {split} files", items, read, sample, tell, workers))
    return checks


def verify_parts(
    dataset: str,
    root: Path,
    parts: Mapping[str, Sequence[Item]],
    classes: int,
    sample: int,
    tell: Progress,
    workers: int | None,
) -> list[Check]:
    """Checks of a folder of one's own: how many images of how many classes each part has, and that they can be read."""
    checks = []
    for part, items in parts.items():
        seen = len({item.label for item in items})
        checks.append(Check(f"{dataset}: {part}", bool(items), f"{len(items)} images, {seen} of {classes} classes"))
        checks.append(readable(f"{dataset}: {part} files", items, partial(try_decode, root), sample, tell, workers))
    return checks


def _counts(dataset: str, split: str, items: Sequence[Item]) -> Check:
    sizes = Counter(item.label for item in items)
    message = f"{len(items)} images, {len(sizes)} of {len(imagenet.classes())} classes"
    if dataset != "imagenet-1k":
        return Check(f"{dataset}: {split}", bool(items), message)
    wrong = [synset for synset, index in imagenet.classes().items() if split == "val" and sizes[index] != 50]
    if wrong:
        first = f"{wrong[0]} with {sizes[imagenet.classes()[wrong[0]]]}"
        message += f"; {len(wrong)} classes have not 50 images, the first is {first}"
    elif len(items) != FULL_COUNTS[split]:
        message += f"; ILSVRC-2012 has {FULL_COUNTS[split]}"
    complete = len(items) == FULL_COUNTS[split] and len(sizes) == len(imagenet.classes())
    return Check(f"{dataset}: {split}", complete and not wrong, message)


def _attribution(dataset: str, root: Path, items: Sequence[Item]) -> Check:
    """Every file that ATTRIBUTION.csv lists is there with its sha256 and class, and no other."""
    name, found = f"{dataset}: {imagenet.ATTRIBUTION}", {item.path: item for item in items}
    try:
        rows = {row["file"]: row for row in attribution.rows(root, ("file", "class_index", "sha256"))}
        listed = [found[path] for path in rows if path in found]
        digests = dict(zip((item.path for item in listed), imagenet.content(root, listed), strict=True))
    except BadInputError as error:
        return Check(name, False, str(error))
    for path, row in rows.items():
        if path not in found:
            return Check(name, False, f"{path} is listed but not there")
        if str(found[path].label) != row["class_index"].strip():
            return Check(name, False, f"{path} lies in class {found[path].label}, listed as {row['class_index']}")
        if digests[path] != row["sha256"].strip().lower():
            return Check(name, False, f"{path} has not the sha256 listed: fetch it again")
    extra = sorted(set(found) - set(rows))
    return Check(name, not extra, f"{extra[0]} is not listed" if extra else f"all {len(rows)} files as listed")

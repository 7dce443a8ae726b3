"""The embedded digit scenes opened: batches of scenes, what is in them as COCO says it, and folders of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitq.datasets import digit_scenes, digits
from vitq.datasets.base import Check, Data
from vitq.datasets.batches import Counted, seed_of
from vitq.datasets.calibration import Calibration, warn_of_overlap
from vitq.datasets.digit_scenes import SPLITS, members
from vitq.datasets.identity import validation_sha256
from vitq.datasets.listing import Item, as_text
from vitq.datasets.outlines import polygons
from vitq.datasets.scene_drawing import SIDE, Drawn, Mask, draw_scene
from vitq.datasets.scene_folder import check_augment
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.datasets.scenes import Batch, Scene, Things

EVALUATION_BATCH = 16
CATEGORIES = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]


@lru_cache(maxsize=2048)
def drawn(item: Item, seed: int | None = None) -> Drawn:
    """The picture of a scene; with a seed another one of the same scans."""
    name = f"digit-scenes:{item.path}" if seed is None else f"digit-scenes:{item.path}:{seed}"
    return draw_scene(name, members(item))


def open_scenes(task: str, how: ScenePreprocessing, spec: Calibration, *, limit: int | None, seed: int) -> Data:
    """The scenes as a model of a task wants them; BadInputError where the calibration cannot be had."""
    chosen, calibrated = digit_scenes.limited(limit), digit_scenes.calibration(spec)
    overlap = len(set(calibrated) & set(chosen))
    warn_of_overlap(overlap, calibrated)
    return Data(
        calibration=lambda: batches(task, calibrated, spec.batch, how),
        training=lambda epoch: _epoch(task, how, spec, seed_of("train", seed, epoch)),
        validation=lambda: batches(task, chosen, EVALUATION_BATCH, how),
        batch=EVALUATION_BATCH,
        between=lambda first, end: batches(
            task, chosen[first * EVALUATION_BATCH : end * EVALUATION_BATCH], EVALUATION_BATCH, how
        ),
        n_validation=len(chosen),
        sha256=validation_sha256(chosen, digit_scenes.content(chosen)),
        subset=None if limit is None else as_text(chosen),
        calibration_list=as_text(calibrated),
        names=tuple(item.path for item in chosen),
        calibration_overlap=overlap,
        truth=(lambda: coco(chosen)) if task == "detection" else None,
    )


def _epoch(task: str, how: ScenePreprocessing, spec: Calibration, seed: int) -> Counted[Batch]:
    """An epoch of the training split, shuffled by the seed; where augmented, drawn anew by it."""
    check_augment(spec)
    every = digit_scenes.items("train")
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed)).tolist()
    anew = seed if spec.augment == "light" else None
    read = batches(task, [every[i] for i in order], spec.train_batch, how, anew)
    return Counted(read, -(-len(every) // spec.train_batch))


def batches(
    task: str, items: Sequence[Item], batch: int, how: ScenePreprocessing, seed: int | None = None
) -> Iterator[Batch]:
    """Batches of scenes in the order of `items`; the last may be smaller."""
    for i in range(0, len(items), batch):
        yield [scene(task, item, how, seed) for item in items[i : i + batch]]


def scene(task: str, item: Item, how: ScenePreprocessing, seed: int | None = None) -> Scene:
    """One scene as a task wants it: with its things, or with its label map."""
    found = drawn(item, seed)
    image = how.normalize(torch.from_numpy(found.pixels).unsqueeze(0).repeat(3, 1, 1))
    number = digit_scenes.items(item.path.partition("/")[0]).index(item)
    made = Scene(image, item.path, number, (SIDE, SIDE))
    if task == "detection":
        return Scene(made.image, made.name, made.image_id, made.original, things=_things(found))
    return Scene(made.image, made.name, made.image_id, made.original, label_map=torch.from_numpy(found.label_map()))


def _things(found: Drawn) -> Things:
    masks = np.stack(found.masks) if found.masks else np.zeros((0, SIDE, SIDE), bool)
    boxes = [_corners(mask) for mask in found.masks]
    return Things(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(found.labels, dtype=torch.long),
        torch.from_numpy(masks),
        torch.tensor(found.crowd, dtype=torch.bool),
    )


def _corners(mask: Mask) -> list[float]:
    """x1, y1, x2, y2 of the least box around a mask, its far edges outside of the last pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def coco(items: Sequence[Item]) -> Mapping[str, Any]:
    """What is in these scenes as a COCO file says it: polygons, and runs for crowds; categories are 1 + digit."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for item in items:
        found, number = drawn(item), digit_scenes.items(item.path.partition("/")[0]).index(item)
        images.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        for label, mask, crowd in zip(found.labels, found.masks, found.crowd, strict=True):
            x1, y1, x2, y2 = _corners(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(mask.sum()),
                    "iscrowd": int(crowd),
                    "segmentation": runs(mask) if crowd else polygons(mask),
                }
            )
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def runs(mask: Mask) -> dict[str, Any]:
    """A mask [H, W] as COCO's uncompressed runs: lengths down the columns, zeros first."""
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def write_coco(folder: Path, splits: Mapping[str, str]) -> None:
    """Lay scenes out as COCO lies: `splits` maps a split of COCO (`val2017`) to one of ours."""
    (folder / "annotations").mkdir(parents=True)
    for theirs, ours in splits.items():
        items, home = digit_scenes.items(ours), folder / theirs
        home.mkdir()
        for number, item in enumerate(items):
            _image(item).save(home / f"{number}.png")
        (folder / "annotations" / f"instances_{theirs}.json").write_text(json.dumps(coco(items)))


def write_ade(folder: Path, splits: Mapping[str, str]) -> None:
    """Lay scenes out as ADE20K lies, labels one up, 0 for nothing; `splits` maps `validation` to a split of ours."""
    for theirs, ours in splits.items():
        for what in ("images", "annotations"):
            (folder / what / theirs).mkdir(parents=True)
        for number, item in enumerate(digit_scenes.items(ours)):
            _image(item).save(folder / "images" / theirs / f"{number}.png")
            Image.fromarray(drawn(item).label_map() + 1).save(folder / "annotations" / theirs / f"{number}.png")


def _image(item: Item) -> Image.Image:
    return Image.fromarray(drawn(item).pixels).convert("RGB")


def verify_scenes(name: str) -> list[Check]:
    """Whether the validation scenes are as they should be."""
    found = [drawn(item) for item in digit_scenes.items("validation")]
    things = sum(len(each.labels) for each in found)
    classes = {label for each in found for label in each.labels}
    apart = all(np.sum(each.masks, axis=0).max(initial=0) <= 1 for each in found if each.masks)
    crowds = sum(any(each.crowd) for each in found)
    return [
        Check(f"{name}: scenes", all(each.labels for each in found), f"{len(found)} scenes with {things} things"),
        Check(f"{name}: classes", classes == set(range(10)), f"{len(classes)} of 10 digits"),
        Check(f"{name}: masks", apart, "no pixel is of two things" if apart else "masks overlap"),
        Check(f"{name}: crowds", crowds > 0, f"{crowds} scenes with a crowd"),
        Check(f"{name}: splits", _disjoint(), ", ".join(f"{n} {split}" for split, n in SPLITS.items())),
    ]


def _disjoint() -> bool:
    """Whether no scan is among those of two splits."""
    scans = [scan for split in SPLITS for scan in digits.splits()[split]]
    return len(scans) == len(set(scans))


def pixels_sha256() -> str:
    """sha256 of every calibration and validation scene: pixels and label maps."""
    digest = hashlib.sha256()
    for split in ("calibration", "validation"):
        for item in digit_scenes.items(split):
            digest.update(drawn(item).pixels.tobytes() + drawn(item).label_map().tobytes())
    return digest.hexdigest()

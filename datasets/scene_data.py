"""Opening a data set of scenes: iterators over its calibration, training and validation images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import torch

from vitq.datasets.base import Data
from vitq.datasets.batches import Counted, seed_of
from vitq.datasets.calibration import Calibration, warn_of_overlap
from vitq.datasets.identity import validation_sha256
from vitq.datasets.listing import as_text
from vitq.datasets.scene_folder import SceneFolder, check_augment
from vitq.datasets.scene_pixels import MakeScene, scene_batches
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.datasets.scenes import Batch

EVALUATION_BATCH = 1
"""Scenes are evaluated one by one, as mmdet and mmsegmentation test: padding one to another's size would change it."""


def open_scenes(
    folder: SceneFolder,
    how: ScenePreprocessing,
    spec: Calibration,
    *,
    limit: int | None,
    seed: int,
    workers: int | None,
    taught: MakeScene,
    evaluated: MakeScene,
    training: Callable[[int], MakeScene] | None,
    truth: Callable[[list[str]], Mapping[str, Any]] | None = None,
) -> Data:
    """The folder as a model wants it; BadInputError where a list, image or annotation is not as it should be.

    `taught` reads what is calibrated on, `evaluated` what is evaluated, `training` of an epoch's seed what is trained
    on (None: there is no training split); `truth` tells what is in the images of these paths.
    """
    chosen, calibrated = folder.limited(limit), folder.calibration(spec)
    pictures = set(folder.pictures(chosen))  # by content: a copy or a link under another name is the same image
    overlap = sum(digest in pictures for digest in folder.pictures(calibrated))
    warn_of_overlap(overlap, calibrated)
    names = [item.path for item in chosen]
    items = cache(folder.training)

    def epoch(number: int, reader: Callable[[int], MakeScene]) -> Iterator[Batch]:
        check_augment(spec)
        epoch_seed = seed_of("train", seed, number)
        order = torch.randperm(len(items()), generator=torch.Generator().manual_seed(epoch_seed)).tolist()
        shuffled = [items()[i] for i in order]
        batches = scene_batches(folder.root, shuffled, reader(epoch_seed), how, spec.train_batch, workers)
        return Counted(batches, -(-len(shuffled) // spec.train_batch))

    return Data(
        calibration=lambda: scene_batches(folder.root, calibrated, taught, how, spec.batch, workers),
        training=None if training is None else lambda number: epoch(number, training),
        validation=lambda: scene_batches(folder.root, chosen, evaluated, how, EVALUATION_BATCH, workers),
        batch=EVALUATION_BATCH,
        between=lambda first, end: scene_batches(
            folder.root, chosen[first:end], evaluated, how, EVALUATION_BATCH, workers
        ),
        n_validation=len(chosen),
        sha256=validation_sha256(chosen, folder.content(chosen)),
        subset=None if limit is None else as_text(chosen),
        calibration_list=as_text(calibrated),
        names=tuple(names),
        calibration_overlap=overlap,
        truth=None if truth is None else lambda: truth(names),
    )

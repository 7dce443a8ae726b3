"""Opening a folder of images sorted by class: iterators over its calibration, training and validation images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import torch

from vitq.datasets.base import Data
from vitq.datasets.batches import Batch, seed_of, training_epoch
from vitq.datasets.calibration import Calibration, warn_of_overlap
from vitq.datasets.identity import validation_sha256
from vitq.datasets.image_lists import ImageLists
from vitq.datasets.images import read_batches
from vitq.datasets.listing import as_text
from vitq.datasets.preprocessing import Preprocessing

EVALUATION_BATCH = 64


def open_folder(
    lists: ImageLists, how: Preprocessing, spec: Calibration, *, limit: int | None, seed: int, workers: int | None
) -> Data:
    """The folder as a model wants it; BadInputError where a split, a list or an image is not as it should be."""
    root, chosen, calibrated = lists.root, lists.evaluated(limit), lists.calibrated(spec)
    digests = lists.content(chosen)
    evaluated = set(digests)  # by content: a copy or a link under another name is the same image
    overlap = sum(digest in evaluated for digest in lists.content(calibrated))
    warn_of_overlap(overlap, calibrated)
    return Data(
        calibration=lambda: read_batches(root, lists.served(calibrated), how, spec.batch, workers=workers),
        training=_training(lists, how, spec, seed, workers),
        validation=lambda: read_batches(root, lists.served(chosen), how, EVALUATION_BATCH, workers=workers),
        batch=EVALUATION_BATCH,
        between=lambda first, end: read_batches(
            root,
            lists.served(chosen[first * EVALUATION_BATCH : end * EVALUATION_BATCH]),
            how,
            EVALUATION_BATCH,
            workers=workers,
        ),
        n_validation=len(chosen),
        sha256=validation_sha256(chosen, digests),
        subset=None if limit is None else as_text(chosen),
        calibration_list=as_text(calibrated),
        names=tuple(item.path for item in chosen),
        calibration_overlap=overlap,
    )


def _training(
    lists: ImageLists, how: Preprocessing, spec: Calibration, seed: int, workers: int | None
) -> Callable[[int], Iterator[Batch]] | None:
    if lists.training is None:
        return None
    listed = cache(lists.training)

    def training(epoch: int) -> Iterator[Batch]:
        items, epoch_seed = lists.served(listed()), seed_of("train", seed, epoch)
        order = torch.randperm(len(items), generator=torch.Generator().manual_seed(epoch_seed)).tolist()
        shuffled = [items[i] for i in order]
        batches = read_batches(
            lists.root, shuffled, how, spec.train_batch, workers=workers, augment=spec.augment, seed=epoch_seed
        )
        return training_epoch(batches, len(items), spec, lists.classes, epoch_seed)

    return training

"""mIoU, aAcc and mAcc of label maps, as mmsegmentation's IoUMetric counts them, with what they are made of by image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitq.dense_outcomes import Overlaps, stderr, value
from vitq.tasks.base import Measured

UNLABELLED = 255
Counts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def overlap(predicted: Tensor, truth: Tensor, classes: int) -> Counts:
    """Pixels of each class [classes] that are predicted rightly, predicted at all, and there; unlabelled ones left out.

    `predicted` and `truth` are class indices [H, W].
    """
    labelled = truth != UNLABELLED
    said, there = predicted[labelled].long(), truth[labelled].long()
    return _count(said[said == there], classes), _count(said, classes), _count(there, classes)


def _count(labels: Tensor, classes: int) -> NDArray[np.int64]:
    found: NDArray[np.int64] = torch.bincount(labels.flatten(), minlength=classes)[:classes].cpu().numpy()
    return found


def mean_iou(counts: Sequence[Counts]) -> dict[str, Measured]:
    """The metrics in percent of what `overlap` gives of each image."""
    both, predicted, truth = (np.stack(parts) for parts in zip(*counts, strict=True))
    made = Overlaps(both, predicted, truth)
    return {name: Measured(value(made, name), made.n, stderr(made, name), made) for name in made.metrics()}

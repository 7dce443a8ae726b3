"""mIoU, mean class accuracy and pixel accuracy of label maps, from the pixels of each image and class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitq.errors import BadInputError
from vitq.outcomes import Overlaps, deviation
from vitq.tasks.base import Measured

UNLABELLED = 255
"""What a label map says where no class is known; such pixels count for nothing."""
Pixels = NDArray[np.int64]


def overlap(prediction: NDArray[np.integer], truth: NDArray[np.integer], classes: int) -> tuple[Pixels, Pixels, Pixels]:
    """Pixels by class of one image: called so and truly so, called so, truly so; [classes] each.

    Raises BadInputError for maps [H, W] of different sizes or with a label that is no class.
    """
    if prediction.shape != truth.shape:
        raise BadInputError(f"a label map of {_size(truth)} for a prediction of {_size(prediction)}")
    known = truth != UNLABELLED
    called, there = prediction[known].astype(np.int64), truth[known].astype(np.int64)
    for name, labels in (("label map", there), ("prediction", called)):
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise BadInputError(f"a {name} with label {labels.max()}, of {classes} classes")
    parts = (there[called == there], called, there)
    both, by_prediction, by_truth = (np.bincount(part, minlength=classes) for part in parts)
    return both, by_prediction, by_truth


def _size(labels: NDArray[np.integer]) -> str:
    return " x ".join(str(side) for side in labels.shape)


def mean_iou(overlaps: Overlaps) -> dict[str, Measured]:
    """miou, aacc and macc in percent with standard errors by bootstrap over the images.

    A metric without any labelled pixel is left out.
    """
    values = {name: overlaps.value(name) for name in overlaps.metrics}
    return {
        name: Measured(value, overlaps.n, deviation(overlaps.resampled(name)) if overlaps.n > 1 else None, overlaps)
        for name, value in values.items()
        if value is not None
    }

"""Data sets by name, imported only when asked for: ours, and those of other packages' entry points."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vitq.registry import Registry

if TYPE_CHECKING:
    from vitq.datasets.base import Dataset

DATASETS: Registry[Dataset] = Registry(
    "data set",
    {
        "ade20k": "vitq.datasets.ade20k:ADE20K",
        "coco-2017": "vitq.datasets.coco:COCO_2017",
        "digit-scenes": "vitq.datasets.digit_scenes:DIGIT_SCENES",
        "digit-scenes-maps": "vitq.datasets.digit_scenes:DIGIT_SCENES_MAPS",
        "digits": "vitq.datasets.digits:DIGITS",
        "imagenet-1k": "vitq.datasets.imagenet:IMAGENET_1K",
        "imagenet-proxy": "vitq.datasets.imagenet:IMAGENET_PROXY",
    },
    group="vitq.datasets",
)
"""A name stands for a `vitq.datasets.base.Dataset`, whose module imports no torch."""
load = DATASETS.load


def register(datasets: Iterable[Dataset]) -> None:
    """Let this process know these data sets too; see `vitq.registry.Registry.register` for what is refused."""
    for dataset in datasets:
        DATASETS.register(dataset.name, dataset)


def registered_datasets() -> tuple[Dataset, ...]:
    """What was registered, in that order; a worker process is told of it."""
    return tuple(DATASETS.registered.values())

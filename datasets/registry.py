"""Data sets by name, imported only when asked for: ours, and those of other packages' entry points."""

from __future__ import annotations

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

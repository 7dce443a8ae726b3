"""Tasks by name, imported only when asked for; there are none but ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitq.registry import Registry

if TYPE_CHECKING:
    from vitq.tasks.base import Task

TASKS: Registry[Task] = Registry(
    "task",
    {
        "classification": "vitq.tasks.classification:TASK",
        "detection": "vitq.tasks.detection:TASK",
        "segmentation": "vitq.tasks.segmentation:TASK",
    },
)
"""A name stands for a `vitq.tasks.base.Task`."""
load = TASKS.load

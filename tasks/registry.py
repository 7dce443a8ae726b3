"""Tasks by name, imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from vitq.errors import BadInputError
from vitq.tasks.names import TASKS, task_names, unknown

if TYPE_CHECKING:
    from vitq.tasks.base import Task


def load(name: str) -> Task:
    """The task of that name; BadInputError names the nearest ones."""
    if name not in TASKS:
        raise BadInputError(unknown("task", name, task_names()))
    return cast("Task", import_module(TASKS[name]).TASK)

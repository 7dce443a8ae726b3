"""Whether the parts of models that cells are to quantize are there, found before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from vitq.errors import BadInputError, UnsupportedError
from vitq.record import CellKey
from vitq.subject import WHOLE, part_of
from vitq.words import short

PATH = r"^\w+(\.\w+)*$"
"""What a scope looks like, as text."""


def check_scopes(cells: Iterable[CellKey]) -> None:
    """BadInputError for the first scope that names no module of its model; torch is imported for parts alone."""
    asked = {(cell.task, cell.model, cell.scope): cell for cell in cells if cell.scope != WHOLE}
    if not asked:
        return
    for _, _, scope in asked:
        if not re.fullmatch(PATH, scope):
            raise BadInputError(f"--scope is {short(scope)}: give the path of a module, as backbone, or {WHOLE}")
    import torch

    from vitq.tasks.registry import load

    for task, model, scope in asked:
        # a model that cannot be built here says so in the record of its cell
        with torch.device("meta"), suppress(UnsupportedError):
            part_of(load(task).build_model(model), scope)

"""Whether the parts of models that cells are to quantize are there, found before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

from vitq.record import CellKey
from vitq.subject import WHOLE, part_of


def check_scopes(cells: Iterable[CellKey]) -> None:
    """BadInputError for the first scope that names no module of its model; torch is asked for parts alone."""
    asked = {(cell.task, cell.model, cell.scope): cell for cell in cells if cell.scope != WHOLE}
    if not asked:
        return
    import torch

    from vitq.tasks.registry import load

    for task, model, scope in asked:
        with torch.device("meta"):
            part_of(load(task).build_model(model), scope)

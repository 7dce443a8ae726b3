"""A word that may be a name or a path: what it means; where it may be both, one line that says how to write each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitq.errors import BadInputError
from vitq.words import short, unknown

DATASET = "dataset:"
"""What stands before the name of a data set where a folder of that name is there too."""


def dataset_of(data: Any) -> str | None:
    """The name of the data set that is meant by a word; None for a path, and for what is no word.

    BadInputError for a word that is the name of one and a folder's too, and for `dataset:` and no data set's name.
    """
    from vitq.datasets.registry import DATASETS

    if not isinstance(data, str):
        return None
    name, known = data.removeprefix(DATASET), DATASETS.names()
    if data.startswith(DATASET) and name not in known:
        raise BadInputError(unknown("data set", name, known))
    if data in known and Path(data).is_dir():
        raise BadInputError(
            f"{data!r} is the name of a data set, and a folder is there too: write {f'./{data}'!r} for the folder, "
            f"{DATASET + data!r} for the data set"
        )
    return name if name in known else None


def refuse_name_and_file(model: Any) -> None:
    """BadInputError for a word that is the name of a model and a file's too; a `Path` is always a file's."""
    from vitq.tasks.names import is_model

    if isinstance(model, str) and not model.startswith("hf-hub:") and Path(model).is_file() and is_model(model):
        raise BadInputError(
            f"{short(model)} is the name of a model, and a file is there too: write {f'./{model}'!r} for the file, or "
            "move it away for the model"
        )

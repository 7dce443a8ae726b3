"""Data sets by name, imported only when asked for."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, cast

from vitq.errors import BadInputError

if TYPE_CHECKING:
    from vitq.datasets.base import Dataset

DATASETS = {
    "digits": "vitq.datasets.digits:DIGITS",
    "imagenet-1k": "vitq.datasets.imagenet:IMAGENET_1K",
    "imagenet-proxy": "vitq.datasets.imagenet:IMAGENET_PROXY",
}
"""Data set name to `module:attribute`."""


def dataset_names() -> list[str]:
    """Names of all data sets."""
    return list(DATASETS)


def load(name: str) -> Dataset:
    """The data set of that name; BadInputError names the nearest ones."""
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(DATASETS)}"
        raise BadInputError(f"no data set is called {name!r}; {hint}")
    module, _, attribute = DATASETS[name].partition(":")
    return cast("Dataset", getattr(import_module(module), attribute))

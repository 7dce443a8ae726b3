"""What of a cell another package than vitq adds: method, model, data set or runtimes, with the package's version."""

from __future__ import annotations

from collections.abc import Iterable

from vitq.benchmarks.runtimes.registry import RUNTIMES
from vitq.datasets.registry import DATASETS
from vitq.methods.registry import METHODS
from vitq.record import CellKey
from vitq.tasks.names import models


def added_by(cell: CellKey, runtimes: Iterable[str] = ()) -> dict[str, str]:
    """Package and version by what it adds, as `vitq.record.Asked` keeps them; nothing for what is vitq's own."""
    found = {
        METHODS.kind: METHODS.origin(cell.method),
        "model": models().origin(cell.model),
        DATASETS.kind: DATASETS.origin(cell.dataset),
        **{f"{RUNTIMES.kind} {name}": RUNTIMES.origin(name) for name in runtimes},
    }
    return {what: package for what, package in found.items() if package}

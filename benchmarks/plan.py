"""From a suite's cells to orders: identities of weights and data, checked before anything runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from vitq import __version__
from vitq.benchmarks.cells import fingerprint
from vitq.benchmarks.order import Order
from vitq.benchmarks.provenance import collect
from vitq.benchmarks.record import CellKey
from vitq.benchmarks.site import Site
from vitq.benchmarks.suite import Suite
from vitq.datasets.identity import data_identity
from vitq.errors import BadInputError
from vitq.methods.cards import all_cards
from vitq.tasks.names import model_entry, task_version
from vitq.tasks.places import Places
from vitq.tasks.weight_files import weights_identity


def plan(
    suite: Suite, cells: Sequence[CellKey], site: Site, folder: Path, *, device: str, command: str, jobs: int = 1
) -> list[Order]:
    """An order a cell. Raises BadInputError when a data set, its folder or a weights file is missing."""
    provenance = collect(command)
    threads = site.threads or suite.threads or max(1, (os.cpu_count() or 1) // jobs)
    accounting = suite.mode == "accounting"
    weights, data = ({}, {}) if accounting else _identities(cells, site.places())
    kind = "none" if accounting else device.partition(":")[0]
    orders = []
    for cell in cells:
        mark = fingerprint(
            cell,
            weights=weights.get(cell.model),
            data=data.get(cell.dataset),
            vitq=__version__,
            code=code_identity(),
            method_version=all_cards()[cell.method].version,
            task_version=task_version(cell.task),
            device=kind,
        )
        latency = suite.latency if jobs == 1 else None
        orders.append(Order(cell, mark, site, folder, provenance, latency, accounting, threads, device))
    return orders


def _identities(cells: Sequence[CellKey], places: Places) -> tuple[dict[str, str], dict[str, str]]:
    """Weights by model and data by data set, each identified once."""
    weights = {m: weights_identity(model_entry(m), places) for m in dict.fromkeys(c.model for c in cells)}
    data = {d: json.dumps(data_identity(d, places.datasets)) for d in dict.fromkeys(c.dataset for c in cells)}
    return weights, data


@cache
def code_identity() -> str:
    """sha256 of the sources that decide a result: changed code must not be answered with an old record."""
    digest = hashlib.sha256()
    for room in ("methods", "datasets", "tasks"):
        folder = Path(str(resources.files(f"vitq.{room}")))
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{room}/{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def results_folder(suite: Suite, site: Site, given: Path | None) -> Path:
    """`--results`, or a folder named after the suite in the site's results."""
    return given or site.results / suite.name


def check_device(device: str) -> None:
    """Raise BadInputError when torch has no such device; asks torch only for something other than the CPU."""
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadInputError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from None

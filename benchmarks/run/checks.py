"""The checks of `vitq verify`, made where cells run: in a process of the same fork server, with a cell's settings.

What breaks only there (a reader that cannot start, a library that does not survive the way processes are made) is found
before hours are spent, and not in the first cell.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from vitq.benchmarks.run.executors import become_worker, how_it_ended, join
from vitq.benchmarks.run.processes import process_context, start_server
from vitq.datasets import registry as datasets
from vitq.datasets.base import Check, Dataset
from vitq.datasets.registry import registered_datasets
from vitq.subject import Progress
from vitq.tasks import names
from vitq.tasks.names import ModelEntry, registered_models
from vitq.tasks.places import Places

PRELOAD = "vitq.benchmarks.run.worker"
"""What the server of cells has imported; see `executors.LocalExecutor`."""


@dataclass(frozen=True)
class Request:
    """What to check: the models of one task on one data set, as a cell of them would be run.

    `known_models` and `known_datasets` are those that its maker had registered.
    """

    task: str
    models: tuple[str, ...]
    dataset: str
    places: Places
    sample: int
    calibration: dict[str, Any]
    threads: int | None
    known_models: tuple[ModelEntry, ...] = field(default_factory=registered_models)
    known_datasets: tuple[Dataset, ...] = field(default_factory=registered_datasets)


def in_cells_process(request: Request, progress: Progress) -> list[Check]:
    """Make the checks in a process of their own; how it dies, or what it raises, is a check that fails."""
    context: Any = process_context([PRELOAD])
    start_server()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(request, theirs), daemon=False)
    process.start()
    theirs.close()
    try:
        return _heard(ours, process, request, progress)
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        ours.close()


def _heard(ours: Connection, process: Any, request: Request, progress: Progress) -> list[Check]:
    try:
        while not isinstance(message := ours.recv(), list):
            progress(*message)
    except (EOFError, ConnectionResetError):
        join(process)
        return [Check(request.dataset, False, f"the process that checks, made as a cell's is, {how_it_ended(process)}")]
    return message


def _serve(request: Request, connection: Connection) -> None:
    """Body of the process: check, tell, end when whoever asked is gone."""
    become_worker()
    try:
        checks: Sequence[Check] = _checked(request, lambda phase, done, total: connection.send((phase, done, total)))
    except Exception as error:  # whatever a cell would fail of
        said = " ".join(str(error).split())
        checks = [Check(request.dataset, False, f"a cell's process fails: {type(error).__name__}: {said}")]
    connection.send(list(checks))
    connection.close()


def _checked(request: Request, progress: Progress) -> list[Check]:
    import torch

    from vitq.tasks.registry import load
    from vitq.tasks.verify import verify_task

    names.register(request.known_models)
    datasets.register(request.known_datasets)
    if request.threads:
        torch.set_num_threads(request.threads)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", UserWarning)
        checks = verify_task(
            load(request.task), request.models, request.dataset, request.places,
            progress=progress, sample=request.sample, calibration=request.calibration,
        )  # fmt: skip
    said = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning))
    return [*checks, *(Check(f"{request.dataset}: warning", True, text) for text in said)]

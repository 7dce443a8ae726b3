"""What `vitq verify` checks of a data set and its models, of any task: images, weights, and the metrics in FP32."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vitq.datasets.base import Check
from vitq.datasets.registry import DATASETS
from vitq.metrics import main_metrics
from vitq.subject import Progress
from vitq.tasks.base import BadInputError, Data, LoadedModel, Measured, Places, Task

__all__ = ["Check", "verify_task"]

STDERRS = 3
"""How many standard errors below what is expected an accuracy may lie."""


def verify_task(
    task: Task,
    models: Sequence[str],
    dataset: str,
    places: Places,
    *,
    progress: Progress,
    sample: int = 256,
    calibration: Mapping[str, Any] | None = None,
) -> list[Check]:
    """Check a data set and the models to run on it.

    `sample` is how many files of a large data set are read, and on how many images FP32 accuracy is measured (the
    digits: on all). An accuracy fails more than three standard errors below what the model is expected to have; where
    no source says, more than three above chance is wanted. Nothing raises: what is wrong is a check that is not ok.
    """
    absent = task.unsupported()
    if absent is not None:
        return [Check(f"{task.name} on {dataset}", True, f"not checked: {absent}")]
    checks = DATASETS.load(dataset).verify(places.datasets, sample=sample, tell=progress, workers=places.workers)
    readable = all(check.ok for check in checks)
    for name in models:
        try:
            loaded = task.load_model(name, places)
        except BadInputError as error:
            checks.append(Check(f"{name}: weights", False, str(error)))
            continue
        checks.append(Check(f"{name}: weights", True, f"every tensor fits, sha256 {loaded.weights_sha256}"))
        if readable:
            checks.append(_accuracy(task, loaded, dataset, places, sample, dict(calibration or {}), progress))
    return checks


def _accuracy(
    task: Task,
    loaded: LoadedModel,
    dataset: str,
    places: Places,
    sample: int,
    calibration: dict[str, Any],
    progress: Progress,
) -> Check:
    name, main = f"{loaded.name}: FP32 accuracy", main_metrics(task.name)[0]
    limit = sample if DATASETS.load(dataset).needs_folder else None
    try:
        data = task.open_data(dataset, loaded, places, limit=limit, seed=0, calibration=calibration)
        _read_once(data)
        measured = task.evaluate(loaded.model, data, progress)[main]
    except BadInputError as error:
        return Check(name, False, str(error))
    expected = loaded.expected.get(dataset, {}).get(main)
    if main == "top1":
        return accuracy_check(name, measured, expected, DATASETS.load(dataset).classes)
    return metric_check(name, main, measured, expected)


def _read_once(data: Data) -> None:
    """A calibration and a training batch, for other readers than validation's may be asked for them."""
    next(data.calibration())
    if data.training is not None:
        next(data.training(0))


def accuracy_check(name: str, measured: Measured, expected: float | None, classes: int) -> Check:
    """Hold a measured accuracy against the expected one, or against chance where none is known (percent)."""
    reference = 100 / classes if expected is None else expected
    error = math.sqrt(reference * (100 - reference) / measured.n)
    text = f"top-1 {measured.value:.2f} on {measured.n} images"
    if expected is None:
        bound = reference + STDERRS * error
        return Check(name, measured.value > bound, f"{text}; no figure to hold it against, chance is {reference:.2f}")
    ok = measured.value >= reference - STDERRS * error
    said = f"{text}, expected {expected:.2f} (standard error {error:.2f})"
    return Check(name, ok, said if ok else f"{said}: wrong weights, preprocessing or labels")


def metric_check(name: str, metric: str, measured: Measured, expected: float | None) -> Check:
    """Hold a metric that is no share against the expected one, or against nothing found where none is known."""
    error = measured.stderr or 0.0
    text = f"{metric} {measured.value:.2f} on {measured.n} images"
    if expected is None:
        return Check(name, measured.value > STDERRS * error, f"{text}; no figure to hold it against")
    ok = measured.value >= expected - STDERRS * error
    said = f"{text}, expected {expected:.2f} (standard error {error:.2f})"
    return Check(name, ok, said if ok else f"{said}: wrong weights, preprocessing or labels")

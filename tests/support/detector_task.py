"""The small detector as a task of the harness, with a data set of its own: images of different sizes, some blank."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import detector
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vitq.benchmarks.run.messages import Finished, Link, Order
from vitq.datasets.base import Check, Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.preprocessing import Preprocessing
from vitq.datasets.registry import DATASETS
from vitq.subject import WHOLE, Progress, Subject, silent
from vitq.tasks import names, weight_files
from vitq.tasks.base import LoadedModel, Measured
from vitq.tasks.names import ModelEntry
from vitq.tasks.places import Places
from vitq.tasks.registry import TASKS

NAME, MODEL, IMAGES = "made-detection", "made-detector", "made-images"
HOW = Preprocessing(detector.INPUT.size, detector.INPUT.mean, detector.INPUT.std, 1.0, "bilinear")
ENTRY = ModelEntry(name=MODEL, task=NAME, preprocessing=HOW, hub=False)


class MadeDetection:
    """See `vitq.tasks.base.Task`; its metric: images with something in them, or none, of which the model says so."""

    name, version = NAME, 1

    def unsupported(self) -> None:
        """It needs nothing."""

    def build_model(self, name: str) -> nn.Module:
        return self.build_entry(names.model_entry(name))

    def build_entry(self, entry: ModelEntry) -> nn.Module:
        return detector.Detector().eval()

    def load_model(self, name: str, places: Places) -> LoadedModel:
        model, entry = self.build_model(name), names.model_entry(name)
        file = weight_files.find(entry, places)
        assert file is not None
        model.load_state_dict(load_file(file))
        return LoadedModel(name, model, entry.preprocessing, weight_files.file_sha256(file))

    def open_data(
        self, dataset: str, loaded: LoadedModel, places: Places, *, limit: int | None, seed: int,
        calibration: Mapping[str, Any],
    ) -> Data:  # fmt: skip
        return DATASETS.load(dataset).open(
            loaded.preprocessing, Calibration.parse(calibration), places.datasets, limit=limit, seed=seed, workers=None
        )

    def subject(
        self, loaded: LoadedModel, data: Data, *, scope: str = WHOLE, seed: int = 0,
        device: torch.device | str = "cpu", artifacts: Path = Path(), progress: Progress = silent,
    ) -> Subject:  # fmt: skip
        return detector.subject(
            copy.deepcopy(loaded.model), scope, calibration=data.calibration, look=data.calibration,
            training=data.training, seed=seed, device=torch.device(device), artifacts=artifacts, progress=progress,
            validate=lambda model: {n: m.value for n, m in self.evaluate(model, data, progress).items()},
        )  # fmt: skip

    def forward(self, model: nn.Module, batch: detector.Images) -> list[detector.Found]:
        return detector.forward(model, batch)

    def digest(self, output: list[detector.Found]) -> str:
        return detector.digest(output)

    def example(self, how: Preprocessing, n: int, device: torch.device | str = "cpu", seed: int = 0) -> detector.Images:
        return detector.images(seed, n, str(device))

    def evaluate(self, model: nn.Module, data: Data, progress: Progress) -> dict[str, Measured]:
        right = []
        with torch.no_grad():
            for batch in data.validation():
                found = self.forward(model, batch)
                right += [bool(len(f["boxes"])) == bool(i.any()) for f, i in zip(found, batch, strict=True)]
                progress("evaluate", len(right), data.n_validation)
        p = sum(right) / len(right)
        error = 100 * (p * (1 - p) / len(right)) ** 0.5
        return {"box_ap": Measured(100 * p, len(right), error, np.array(right))}

    def pictures(self, before: nn.Module, after: nn.Module, data: Data) -> dict[str, bytes]:
        return {}


class MadeImages:
    """See `vitq.datasets.base.Dataset`."""

    name, task, packages, modules = IMAGES, NAME, ("numpy",), ("detector_task", "detector")
    classes, full_size, needs_folder = detector.CLASSES, None, False

    def identity(self, places: object, **asked: Any) -> dict[str, str]:
        made = {what: f"made images to {what} on" for what in ("validation", *asked["wants"])}
        return {**made, "subset": "all"}

    def open(self, how: Preprocessing, spec: Calibration, places: object, **asked: Any) -> Data:
        return Data(
            calibration=detector.calibration, training=detector.training, validation=_validation, n_validation=7,
            sha256="made", calibration_list="".join(f"{i}\n" for i in range(6)), names=tuple(map(str, range(7))),
        )  # fmt: skip

    def verify(self, *_: object, **__: object) -> list[Check]:
        return [Check(IMAGES, True, "made")]


def _validation() -> Iterator[detector.Images]:
    yield detector.images(11, 4)
    yield [*detector.images(12, 2), torch.zeros(3, 24, 24)]


TASK, DATA = MadeDetection(), MadeImages()


def register(put: Callable[[dict[str, Any], str, Any], None] = dict.__setitem__) -> None:
    """Make task, model and data set known by name, as long as `put` does."""
    put(TASKS.ours, NAME, "detector_task:TASK")
    put(DATASETS.ours, IMAGES, "detector_task:DATA")
    put(names.models().registered, MODEL, ENTRY)


def work(order: Order, link: Link) -> Finished:
    """What a worker process does with an order, once the names are known there too."""
    from vitq.benchmarks.run.worker import work_on

    register()
    return work_on(order, link)


def write_weights(path: Path) -> Path:
    """The detector's weights as a file."""
    save_file(detector.make_detector().state_dict(), path)
    return path

"""What detection and segmentation share: building and loading mm's models, opening scenes, and the subject."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitq import mm
from vitq.datasets.calibration import Calibration
from vitq.datasets.identity import check_limit
from vitq.datasets.registry import DATASETS
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.datasets.scenes import Batch, Scene
from vitq.errors import BadInputError
from vitq.subject import WHOLE, Progress, Subject, silent
from vitq.tasks import hub_pins, mm_models, swin_names, weight_files, weights
from vitq.tasks.base import Data, LoadedModel, Measured, Places
from vitq.tasks.names import Configured, ModelEntry, model_entry


class Dense:
    """A task on scenes; see `vitq.tasks.base.Task` for what each function promises."""

    name: str
    version = 1
    """Rises when its metrics change for the same model."""

    def unsupported(self) -> str | None:
        """What is missing of mm; None where all is there."""
        return mm.why_absent(*mm.MM, "faster_coco_eval", "pycocotools")

    def build_model(self, name: str) -> nn.Module:
        """The architecture with random weights, in eval mode; BadInputError for an unknown name."""
        return self.build_entry(model_entry(name))

    def build_entry(self, entry: ModelEntry) -> nn.Module:
        """The architecture that an entry describes, with random weights, in eval mode."""
        if not isinstance(entry.build, Configured):
            raise BadInputError(f"model {entry.name} has no configuration of mmdet or mmsegmentation: give `config`")
        return mm_models.build(entry.build, self.name)

    def load_model(self, name: str, places: Places) -> LoadedModel:
        """The model with its weights, from a file that the site file names or that is packaged."""
        entry = model_entry(name)
        path = weight_files.find(entry, places)
        if path is None:
            raise weight_files.missing(entry, places)
        digest = weights.check_sha256(path, entry)
        if entry.url and not (entry.sha256 or entry.sha256_prefix):
            hub_pins.pin(entry, digest)
        model = self.build_entry(entry)
        state = swin_names.converted(weights.read(path))
        weights.put(state, model, f"weights file {path}", entry.name)
        return LoadedModel(name, model, entry.preprocessing, weights_sha256=digest, expected=entry.expected)

    def open_data(
        self,
        dataset: str,
        loaded: LoadedModel,
        places: Places,
        *,
        limit: int | None,
        seed: int,
        calibration: Mapping[str, Any],
    ) -> Data:
        """The data set as this model wants it; `seed` shuffles and augments training."""
        given = DATASETS.load(dataset)
        if given.task != self.name:
            raise BadInputError(f"data set {dataset} is for {given.task}, not for {self.name}: give one of its own")
        check_limit(limit)
        spec = Calibration.parse(calibration)
        return given.open(loaded.preprocessing, spec, places.datasets, limit=limit, seed=seed, workers=places.workers)

    def made_subject(
        self, loaded: LoadedModel, data: Data, functions: Mapping[str, Callable[..., Any]],
        evaluate: Callable[[nn.Module, Data, Progress], dict[str, Measured]], *, scope: str = WHOLE, seed: int = 0,
        device: torch.device | str = "cpu", artifacts: Path = Path(), progress: Progress = silent,
    ) -> Subject:  # fmt: skip
        """A copy of the model with the data; `functions` are those of `Subject` that look inside a batch or output."""
        how = loaded.preprocessing
        return Subject(
            model=copy.deepcopy(loaded.model),
            calibration=data.calibration,
            example=lambda: self.example(how, 1, device, seed),
            synthesize=lambda images, _: scenes_of(images),
            input=how.input,
            scope=scope,
            draws_labels=False,
            look=data.calibration,
            training=data.training,
            validate=lambda model: {name: m.value for name, m in evaluate(model, data, progress).items()},
            seed=seed,
            device=torch.device(device),
            artifacts=artifacts,
            progress=progress,
            **functions,
        )

    def example(self, preprocessing: Any, n: int, device: torch.device | str = "cpu", seed: int = 0) -> Batch:
        """`n` images of noise of the model's input size on a device; on `meta` nothing is drawn."""
        size = preprocessing.size
        if torch.device(device).type == "meta":
            return scenes_of(torch.empty(n, *size, device=device))
        return scenes_of(torch.randn(n, *size, generator=torch.Generator().manual_seed(seed)).to(device))


def scenes_of(images: Tensor) -> Batch:
    """Images [B, C, H, W], normalized, as scenes of which nothing is known."""
    size = (int(images.shape[2]), int(images.shape[3]))
    return [Scene(image, f"made {i}", i, size) for i, image in enumerate(images)]


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def preprocessing_of(loaded: LoadedModel) -> ScenePreprocessing:
    """A model's preprocessing; BadInputError where it is an image classifier's."""
    if not isinstance(loaded.preprocessing, ScenePreprocessing):
        raise BadInputError(f"model {loaded.name} has a classifier's preprocessing: give scale, divisor and mode")
    return loaded.preprocessing

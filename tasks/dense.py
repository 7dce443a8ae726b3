"""What detection and segmentation share: building and loading mm's models, opening scenes, and the subject."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitq import mm
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.datasets.scenes import Batch, Scene
from vitq.errors import BadInputError
from vitq.subject import WHOLE, Output, Progress, Subject, silent
from vitq.tasks import hub_pins, mm_models, swin_names, weight_files, weights
from vitq.tasks.backbones import Features, with_backbone
from vitq.tasks.base import Compilable, Data, LoadedModel, Places
from vitq.tasks.checkpoints import WeightsWarning
from vitq.tasks.evaluating import Evaluating
from vitq.tasks.names import Configured, ModelEntry, model_entry
from vitq.tasks.opening import Opening

LOOKING = ("forward", "loss", "distance", "distill", "digest")
"""The functions of `Subject` that look inside a batch or an output, which each task has of its own."""


class Dense(Opening, Evaluating):
    """A task on scenes; see `vitq.tasks.base.Task` for what each function promises."""

    name: str
    forward: Callable[[nn.Module, Batch], Output]
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
        return self.load_entry(model_entry(name), places)

    def load_entry(self, entry: ModelEntry, places: Places) -> LoadedModel:
        """As `load_model`, of an entry that need not be known by its name."""
        path = weight_files.find(entry, places)
        if path is None:
            raise weight_files.missing(entry, places)
        digest = weight_files.checked_sha256(path, entry, places)
        model = self.build_entry(entry)
        weights.put(_of_prediction(path), model, f"weights file {path}", entry.name)
        if weight_files.is_held(entry, path):
            hub_pins.pin(entry, digest)
        return LoadedModel(entry.name, model, entry.preprocessing, weights_sha256=digest, expected=entry.expected)

    def subject(
        self,
        loaded: LoadedModel,
        data: Data,
        *,
        scope: str = WHOLE,
        seed: int = 0,
        device: torch.device | str = "cpu",
        artifacts: Path = Path(),
        progress: Progress = silent,
    ) -> Subject:
        """A copy of the model, with the data and what this task knows of batches and outputs."""
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
            validate=lambda model: {name: m.value for name, m in self.evaluate(model, data, progress).items()},
            seed=seed,
            device=torch.device(device),
            artifacts=artifacts,
            progress=progress,
            **{name: getattr(self, name) for name in LOOKING},
        )

    def example(self, preprocessing: Any, n: int, device: torch.device | str = "cpu", seed: int = 0) -> Batch:
        """`n` images of noise of the model's input size on a device; on `meta` nothing is drawn."""
        size = preprocessing.size
        if torch.device(device).type == "meta":
            return scenes_of(torch.empty(n, *size, device=device))
        return scenes_of(torch.randn(n, *size, generator=torch.Generator().manual_seed(seed)).to(device))

    def compilable(self, model: nn.Module, batch: Batch) -> Compilable:
        """The backbone, of what it is given first in a forward pass; neck and heads stay in torch."""
        images = self._backbone_input(model, batch)
        features = Features(cast(nn.Module, model.backbone), images)

        def whole(run: Callable[[Tensor], Tensor]) -> Callable[[Batch], Output]:
            other = with_backbone(model, features.maps_of(run))
            return lambda each: self.forward(other, each)

        return Compilable("backbone", features, images, whole)

    def _backbone_input(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the backbone is given first: the images padded and stacked, or a window of them."""
        seen: list[Tensor] = []
        hook = cast(nn.Module, model.backbone).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            with torch.inference_mode():
                self.forward(model, batch)
        finally:
            hook.remove()
        return seen[0].clone()


def _of_prediction(path: Path) -> dict[str, Tensor]:
    """A file's tensors by mmdet 3's names, without those of parts that serve training alone; a warning names these."""
    state = swin_names.converted(weights.read(path))
    beside = [part for part in mm_models.TRAINED_BESIDE if any(key.startswith(f"{part}.") for key in state)]
    for part in beside:
        warnings.warn(
            f"weights file {path}: {part} serves training alone and is left out", WeightsWarning, stacklevel=4
        )
    return {key: tensor for key, tensor in state.items() if not key.startswith(tuple(f"{part}." for part in beside))}


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

"""Image classification: timm models on ImageNet folders and on the embedded digits; top-1 and top-5 accuracy.

A batch is a pair: images [B, C, H, W], normalized, and labels, class indices [B] or class weights [B, classes].
"""

from __future__ import annotations

import copy
import hashlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from vitq.datasets.base import Dataset
from vitq.datasets.batches import Batch
from vitq.datasets.preprocessing import Preprocessing
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.errors import MethodInputError, UnsupportedError
from vitq.subject import WHOLE, Progress, Subject, silent
from vitq.tasks import hub_pins, own_models, own_weights, weight_files, weights
from vitq.tasks.base import BadInputError, Compilable, Data, LoadedModel, Measured, Places
from vitq.tasks.evaluating import Evaluating
from vitq.tasks.names import Build, Configured, ModelEntry, model_entry
from vitq.tasks.opening import Opening

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "VisionTransformer": VisionTransformer,
    "SwinTransformer": SwinTransformer,
}


class Classification(Opening, Evaluating):
    """The task; see `vitq.tasks.base.Task` for what each function promises."""

    name = "classification"
    version = 1
    """Rises when its metrics change for the same model."""

    def unsupported(self) -> None:
        """What it needs comes with vitq."""

    def build_model(self, name: str) -> nn.Module:
        """The architecture with random weights, in eval mode; BadInputError for an unknown name."""
        return self.build_entry(model_entry(name))

    def build_entry(self, entry: ModelEntry) -> nn.Module:
        """The architecture that an entry describes, with random weights, in eval mode."""
        if isinstance(entry.build, Configured):
            raise BadInputError(f"model {entry.name} is a detector or segmenter: its task is not classification")
        if isinstance(entry.build, Build):
            return BUILDERS[entry.build.cls](**entry.build.args).eval()
        return own_models.build(entry).eval()

    def load_model(self, name: str, places: Places) -> LoadedModel:
        """The model with its weights: from a file (site file, or packaged), else from the hub by its pinned tag."""
        return self.load_entry(model_entry(name), places)

    def load_entry(self, entry: ModelEntry, places: Places) -> LoadedModel:
        """As `load_model`, of an entry that need not be known by its name."""
        path = weight_files.find(entry, places)
        if path is not None:
            model, digest = self._from_file(entry, path, places)
        elif entry.hub and places.hub:
            model, digest = _from_hub(entry)
        else:
            raise weight_files.missing(entry, places)
        if entry.not_papers:
            warnings.warn(entry.not_papers, weights.WeightsWarning, stacklevel=2)
        return LoadedModel(entry.name, model, entry.preprocessing, weights_sha256=digest, expected=entry.expected)

    def _from_file(self, entry: ModelEntry, path: Path, places: Places) -> tuple[nn.Module, str]:
        digest = weight_files.checked_sha256(path, entry, places)
        model = self.build_entry(entry)
        where = f"weights file {path}"
        weights.put(own_weights.adapted(weights.read(path), model, entry, where), model, where, entry.name)
        return model, digest

    def open_dataset(
        self,
        given: Dataset,
        loaded: LoadedModel,
        places: Places,
        *,
        limit: int | None,
        seed: int,
        calibration: Mapping[str, Any],
    ) -> Data:
        """As `Opening.open_dataset`; BadInputError too where the model has no classifier."""
        if getattr(loaded.model, "num_classes", None) == 0:
            raise BadInputError(
                f"model {loaded.name} has no classifier (0 classes), so that nothing can be right on {given.name}: "
                "give weights with one"
            )
        return super().open_dataset(given, loaded, places, limit=limit, seed=seed, calibration=calibration)

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
        """A copy of the model, with the data and these functions; without a classifier there is no loss of labels."""
        classifies = self.classes(loaded) > 0

        def no_loss(output: Tensor, batch: Batch) -> Tensor:  # noqa: ARG001
            raise UnsupportedError(
                f"{loaded.name} has no classifier (0 classes), and the method needs a loss of labels"
            )

        return Subject(
            model=copy.deepcopy(loaded.model),
            forward=self.forward,
            calibration=data.calibration,
            example=lambda: self.example(loaded.preprocessing, 1, device, seed),
            loss=self.loss if classifies else no_loss,
            draws_labels=classifies,
            distance=self.distance,
            distill=self.distill,
            digest=self.digest,
            synthesize=lambda images, generator: self.synthesize(images, generator, loaded),
            input=loaded.preprocessing.input,
            scope=scope,
            look=data.calibration,
            training=data.training,
            validate=lambda model: {name: m.value for name, m in self.evaluate(model, data, progress).items()},
            seed=seed,
            device=torch.device(device),
            artifacts=artifacts,
            progress=progress,
        )

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits [B, classes], computed on the device of the model's parameters."""
        return cast(Tensor, model(batch[0].to(_device(model), non_blocking=True)))

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Cross entropy against class indices or class weights, averaged over the batch.

        MethodInputError where the images were given without labels.
        """
        if not batch[1].is_floating_point() and len(batch[1]) and int(batch[1].min()) < 0:
            raise MethodInputError("labels are needed, and the images were given without: give images with labels")
        return F.cross_entropy(output, batch[1].to(output.device))

    def distance(self, left: Tensor, right: Tensor) -> Tensor:
        """Mean absolute difference of logits."""
        return (left - right).abs().mean()

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Cross entropy of the student's softmax against the teacher's, averaged over the batch, as ReActNet does."""
        return F.cross_entropy(student, teacher.softmax(dim=-1))

    def digest(self, output: Tensor) -> str:
        """sha256 of the logits' bytes as float32."""
        return hashlib.sha256(output.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()

    def example(
        self,
        preprocessing: Preprocessing | ScenePreprocessing,
        n: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> Batch:
        """`n` images of noise of the model's input shape on a device, labels 0; on `meta` nothing is drawn."""
        size = preprocessing.size
        labels = torch.zeros(n, dtype=torch.long, device=device)
        if torch.device(device).type == "meta":
            return torch.empty(n, *size, device=device), labels
        return torch.randn(n, *size, generator=torch.Generator().manual_seed(seed)).to(device), labels

    def compilable(self, model: nn.Module, batch: Batch) -> Compilable:
        """The whole model, of the images [B, 3, H, W]."""
        return Compilable(WHOLE, model, batch[0], lambda run: lambda each: run(each[0]))

    def synthesize(self, images: Tensor, generator: torch.Generator, loaded: LoadedModel) -> Batch:
        """These images [B, C, H, W] with labels drawn uniformly by the generator, all 0 without classes."""
        labels = torch.randint(
            max(1, self.classes(loaded)), (len(images),), generator=generator, device=generator.device
        )
        return images, labels.to(images.device)

    def classes(self, loaded: LoadedModel) -> int:
        """How many classes the model has, 0 without a classifier: as it says itself, or as many as it gives numbers."""
        told = getattr(loaded.model, "num_classes", None)
        if isinstance(told, int):
            return told
        device = _device(loaded.model)
        with torch.no_grad():
            logits = self.forward(loaded.model, self.example(loaded.preprocessing, 1, device))
        return int(logits.shape[-1])

    def judge(self, model: nn.Module, batch: Batch) -> NDArray[np.bool_]:
        """Whether each label is the first, and among the first five, of the model's logits, [B, 2]."""
        return hits(_within(self.forward(model, batch), batch[1]), batch[1])

    def metrics(self, data: Data, judged: Sequence[Any]) -> dict[str, Measured]:  # noqa: ARG002
        """Top-1 and top-5 accuracy in percent, standard error sqrt(p (1 - p) / n), and every sample's outcome."""
        found = np.concatenate(judged)
        return {"top1": accuracy(found[:, 0]), "top5": accuracy(found[:, 1])}

    def pictures(self, before: nn.Module, after: nn.Module, data: Data) -> dict[str, bytes]:  # noqa: ARG002
        """None: a class is a word."""
        return {}


def hits(logits: Tensor, labels: Tensor) -> NDArray[np.bool_]:
    """Whether each label [B] is the first and among the first five of logits [B, classes]: [B, 2].

    Logits that are not finite are wrong.
    """
    top = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels.to(logits.device).unsqueeze(1)
    finite = logits.isfinite().all(dim=1)
    found = torch.stack([top[:, 0] & finite, top.any(dim=1) & finite], dim=1)
    return cast("NDArray[np.bool_]", found.cpu().numpy())


def _within(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits [B, classes] themselves; BadInputError where a label is none of their classes."""
    if logits.ndim != 2 or len(logits) != len(labels):
        raise BadInputError(f"the model gives {list(logits.shape)} for {len(labels)} images: no logits of classes")
    if len(labels) and int(labels.max()) >= logits.shape[1]:
        raise BadInputError(
            f"an image has label {int(labels.max())}, but the model tells {logits.shape[1]} classes apart: give a "
            "model of this data set's classes"
        )
    return logits


def accuracy(outcomes: NDArray[np.bool_]) -> Measured:
    """The share of outcomes [n] that are right, in percent, with its standard error in percentage points."""
    n = len(outcomes)
    p = int(outcomes.sum()) / n
    return Measured(100 * p, n, 100 * math.sqrt(p * (1 - p) / n), outcomes)


def _device(model: nn.Module) -> torch.device:
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _from_hub(entry: ModelEntry) -> tuple[nn.Module, str]:
    try:
        model = own_models.from_hub(entry).eval()
    except Exception as error:  # the hub's client raises errors of many libraries
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise BadInputError(
            f"weights of {entry.name} did not come from the hub ({reason}): put {entry.name}.safetensors into a folder "
            "of the site file's [weights]"
        ) from None
    digest = weights.tensors_sha256(model)
    hub_pins.pin(entry, digest)
    return model, digest


TASK = Classification()

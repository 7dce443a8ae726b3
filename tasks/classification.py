"""Image classification: timm models on ImageNet folders and on the embedded digits; top-1 and top-5 accuracy.

A batch is a pair: images [B, C, H, W], normalized, and labels, class indices [B] or class weights [B, classes].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from vitq.datasets import digits, imagenet
from vitq.datasets.calibration import Calibration
from vitq.datasets.erasing import erase
from vitq.datasets.images import Batch, Counted, Preprocessing, mix, read_batches, seed_of
from vitq.datasets.listing import as_text, stratified
from vitq.tasks import weight_files, weights
from vitq.tasks.base import BadInputError, Data, LoadedModel, Measured, Places, Progress
from vitq.tasks.names import TASK_VERSIONS, ModelEntry, dataset_names, model_entry, unknown

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "VisionTransformer": VisionTransformer,
    "SwinTransformer": SwinTransformer,
}
EVALUATION_BATCH = 64
DIGITS_EVALUATION_BATCH = 200
SUBSET_SEED = 0
"""Every cell of a limited run is evaluated on the same images, whatever its own seed."""


class Classification:
    """The task; see `vitq.tasks.base.Task` for what each function promises."""

    name = "classification"
    version = TASK_VERSIONS["classification"]
    metrics: tuple[str, ...] = ("top1", "top5")

    def build_model(self, name: str) -> nn.Module:
        """The architecture with random weights, in eval mode; BadInputError for an unknown name."""
        entry = model_entry(name)
        if entry.build is not None:
            return BUILDERS[entry.build.cls](**entry.build.args).eval()
        return timm.create_model(name, pretrained=False).eval()

    def load_model(self, name: str, places: Places) -> LoadedModel:
        """The model with its weights: from a file (site file, or packaged), else from the hub by its pinned tag."""
        entry = model_entry(name)
        path = weight_files.find(entry, places)
        if path is not None:
            model, digest = self._from_file(entry, path)
        elif entry.hub and places.hub:
            model, digest = _from_hub(entry)
        else:
            raise weight_files.missing(entry, places)
        how = entry.preprocessing
        return LoadedModel(
            name=name, model=model, size=how.size, mean=how.mean, std=how.std, weights_sha256=digest,
            expected=entry.expected, crop_pct=how.crop_pct, interpolation=how.interpolation,
        )  # fmt: skip

    def _from_file(self, entry: ModelEntry, path: Path) -> tuple[nn.Module, str]:
        model = self.build_model(entry.name)
        weights.put(weights.read(path), model, f"weights file {path}", entry.name)
        return model, weights.check_sha256(path, entry)

    def open_data(
        self,
        dataset: str,
        loaded: LoadedModel,
        places: Places,
        *,
        limit: int | None,
        seed: int,
        calibration: dict[str, Any],
    ) -> Data:
        """The data set as this model wants it; `seed` shuffles and augments training."""
        if dataset not in dataset_names(self.name):
            raise BadInputError(unknown("data set of classification", dataset, dataset_names(self.name)))
        if limit is not None and limit < 1:
            raise BadInputError(f"limit is {limit}, but at least 1 image is needed")
        spec = Calibration.parse(calibration)
        if dataset == "digits":
            return _open_digits(loaded, spec, limit, seed)
        if dataset not in places.datasets:
            raise BadInputError(f"the folder of data set {dataset} is not known: name it in the site file, [datasets]")
        return _open_folder(places.datasets[dataset], loaded, spec, limit, seed, places.workers)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits [B, classes], computed on the device of the model's parameters."""
        return cast(Tensor, model(batch[0].to(_device(model), non_blocking=True)))

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Cross entropy against class indices or class weights, averaged over the batch."""
        return F.cross_entropy(output, batch[1].to(output.device))

    def distance(self, left: Tensor, right: Tensor) -> Tensor:
        """Mean absolute difference of logits."""
        return (left - right).abs().mean()

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Cross entropy of the student's softmax against the teacher's, averaged over the batch, as ReActNet does."""
        return F.cross_entropy(student, teacher.softmax(dim=-1))

    def synthesize(self, images: Tensor, generator: torch.Generator, loaded: LoadedModel) -> Batch:
        """These images [B, C, H, W] with labels drawn uniformly by the generator."""
        classes = int(loaded.model.num_classes)  # type: ignore[arg-type]
        labels = torch.randint(classes, (len(images),), generator=generator, device=generator.device)
        return images, labels.to(images.device)

    def evaluate(self, model: nn.Module, data: Data, progress: Progress) -> dict[str, Measured]:
        """Top-1 and top-5 accuracy in percent, standard error sqrt(p (1 - p) / n)."""
        was_training = model.training
        model.eval()
        hits, n = torch.zeros(2, dtype=torch.long), 0
        with torch.no_grad():
            for batch in data.validation():
                hits += count_hits(self.forward(model, batch), batch[1])
                n += len(batch[1])
                progress("evaluate", n, data.n_validation)
        model.train(was_training)
        return {"top1": accuracy(int(hits[0]), n), "top5": accuracy(int(hits[1]), n)}


def count_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many labels [B] are the first and among the first five of logits [B, classes]: [2], on the CPU."""
    top = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels.to(logits.device).unsqueeze(1)
    finite = logits.isfinite().all(dim=1, keepdim=True)
    return torch.stack([(top[:, :1] & finite).sum(), (top & finite).sum()]).cpu()


def accuracy(hits: int, n: int) -> Measured:
    """A share in percent with its standard error in percentage points."""
    p = hits / n
    return Measured(100 * p, n, 100 * math.sqrt(p * (1 - p) / n))


def _device(model: nn.Module) -> torch.device:
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _from_hub(entry: ModelEntry) -> tuple[nn.Module, str]:
    try:
        model = timm.create_model(entry.name, pretrained=True).eval()
    except Exception as error:  # the hub's client raises errors of many libraries
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise BadInputError(
            f"weights of {entry.name} did not come from the hub ({reason}): put {entry.name}.safetensors into a folder "
            "of the site file's [weights]"
        ) from None
    return model, weights.tensors_sha256(model)


def _preprocessing(loaded: LoadedModel) -> Preprocessing:
    return Preprocessing(loaded.size, loaded.mean, loaded.std, loaded.crop_pct, loaded.interpolation)


def _open_folder(
    root: Path, loaded: LoadedModel, spec: Calibration, limit: int | None, seed: int, workers: int | None
) -> Data:
    how, every = _preprocessing(loaded), imagenet.listing(root, "val")
    chosen = every if limit is None else stratified(every, limit, SUBSET_SEED)
    calibrated = imagenet.calibration(root, spec)
    train_items = cache(lambda: imagenet.listing(root, "train"))

    def training(epoch: int) -> Iterator[Batch]:
        items = train_items()
        epoch_seed = seed_of("train", seed, epoch)
        order = torch.randperm(len(items), generator=torch.Generator().manual_seed(epoch_seed)).tolist()
        shuffled = [items[i] for i in order]
        batches = read_batches(
            root, shuffled, how, spec.train_batch, workers=workers, augment=spec.augment, seed=epoch_seed
        )
        return Counted(_mixed(batches, spec, len(imagenet.classes()), epoch_seed), _count(len(items), spec))

    return Data(
        calibration=lambda: read_batches(root, calibrated, how, spec.batch, workers=workers),
        training=training if (root / "train").is_dir() else None,
        validation=lambda: read_batches(root, chosen, how, EVALUATION_BATCH, workers=workers),
        n_validation=len(chosen),
        sha256=imagenet.sha256(root, every),
        subset=None if limit is None else as_text(chosen),
        calibration_list=as_text(calibrated),
    )


def _count(images: int, spec: Calibration) -> int:
    """Training batches an epoch; a single image left over cannot be mixed and is dropped where mixing is asked."""
    full, rest = divmod(images, spec.train_batch)
    return full + (rest > (1 if spec.augment == "full" else 0))


def _mixed(batches: Iterator[Batch], spec: Calibration, classes: int, seed: int) -> Iterator[Batch]:
    if spec.augment != "full":
        return batches
    erased = ((i, erase(batch, seed_of(seed, i, "erase"))) for i, batch in enumerate(batches) if len(batch[0]) > 1)
    return (mix(batch, classes, seed_of(seed, i)) for i, batch in erased)


def _open_digits(loaded: LoadedModel, spec: Calibration, limit: int | None, seed: int) -> Data:
    how, every = _preprocessing(loaded), digits.items("validation")
    chosen = every if limit is None else stratified(every, limit, SUBSET_SEED)
    calibrated = digits.calibration(spec)

    def training(epoch: int) -> Iterator[Batch]:
        epoch_seed = seed_of("train", seed, epoch)
        batches = digits.training_batches(spec.train_batch, epoch_seed, spec.augment != "none")
        mixed = _mixed(_normalized(batches, how), spec, digits.CLASSES, epoch_seed)
        return Counted(mixed, _count(len(digits.splits()["train"]), spec))

    return Data(
        calibration=lambda: _normalized(digits.batches(calibrated, spec.batch), how),
        training=training,
        validation=lambda: _normalized(digits.batches(chosen, DIGITS_EVALUATION_BATCH), how),
        n_validation=len(chosen),
        sha256=digits.sha256(),
        subset=None if limit is None else as_text(chosen),
        calibration_list=as_text(calibrated),
    )


def _normalized(batches: Iterator[Batch], how: Preprocessing) -> Iterator[Batch]:
    return ((how.normalize(pixels), labels) for pixels, labels in batches)


TASK = Classification()

"""Images that a caller already has: a tensor, a pair of images and labels, or an iterable of such batches.

Images are [N, 3, H, W]: floating point ones are taken as the model wants them, normalized; 8-bit ones are pixels and
are normalized here. A tensor or pair is kept; of an iterable (a DataLoader) only the calibration images are, and it is
iterated again for every evaluation. It has to give the same batches each time, in the same order, which is not trusted
but held to the digests of the first time; an iterator that can be read once alone is read into memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import length_hint
from typing import Any, Literal

import torch
from torch import Tensor

from vitq.datasets.base import Data
from vitq.datasets.batches import Batch, Counted, seed_of
from vitq.datasets.calibration import Calibration, enough, warn_of_overlap
from vitq.datasets.identity import validation_sha256
from vitq.datasets.listing import Item, as_text, draw
from vitq.datasets.preprocessing import Preprocessing
from vitq.errors import BadInputError

Images = Tensor | tuple[Tensor, Tensor] | Sequence[Tensor] | Iterable[Any]
Source = Callable[[], Iterator[Batch]]
NO_LABEL = -1
"""What images are labelled with where no labels are given."""


def in_memory(
    data: Images,
    how: Preprocessing,
    batch: int = 64,
    *,
    calibration: Calibration | None = None,
    classes: int | None = None,
    seed: int = 0,
    use: Literal["both", "calibration", "evaluation"] = "both",
) -> Data:
    """The data as a task hands it on.

    Calibration images are the first `calibration.images` (32), or all where there are fewer; those of a tensor or pair
    are drawn by the seed where `calibration` says `list="seeded"`. With labels, all images are evaluated, and a pair is
    trained on too. `use` says what it is given for: of data to calibrate on no more than that is read; nothing is
    calibrated on data to evaluate. `classes` bounds the labels.

    BadInputError for another shape than `how.size` wants, another number of labels than images, labels that are no
    class indices, and in the use of what is not there (evaluation without labels).
    """
    spec = calibration or Calibration()
    whole, check = _whole(data), _Check(how, classes)
    source = _source(data, check, once=use == "calibration") if whole is None else _in_batches(whole, batch, check)
    calibrated = _none(how) if use == "evaluation" else _calibrated(whole, source, spec)
    if use == "calibration":
        return Data(_fixed(calibrated, spec.batch), None, _refused("it was given to calibrate on"), 0, "")
    digests, labels = _digests(source)
    if not digests:
        raise BadInputError("the data holds no images")
    items = [Item(str(index), label) for index, label in enumerate(labels)]
    labelled = NO_LABEL not in labels
    return Data(
        calibration=_fixed(calibrated, spec.batch),
        training=_training(whole, how, spec, seed) if labelled and whole is not None else None,
        validation=_held_to(source, digests) if labelled else _refused("it has no labels"),
        n_validation=len(items) if labelled else 0,
        sha256=validation_sha256(items, digests),
        names=tuple(item.path for item in items) if labelled else (),
        **_told(calibrated, items, digests, labelled),
    )


def _told(calibrated: Batch, items: list[Item], digests: list[str], labelled: bool) -> dict[str, Any]:
    """The list of calibration images, and how many of them are evaluated, which is said."""
    place = {digest: item for item, digest in reversed(list(zip(items, digests, strict=True)))}
    read = [place[_digest(image)] for image in calibrated[0]]
    if labelled:
        warn_of_overlap(len(read), read)
    return {"calibration_list": as_text(read), "calibration_overlap": len(read) if labelled else 0}


class _Check:
    """Batches as the caller gives them to images as the model wants them and labels; BadInputError for what is none."""

    def __init__(self, how: Preprocessing, classes: int | None) -> None:
        self.how, self.classes = how, classes

    def __call__(self, given: Any) -> Batch:
        images, labels = _pair(given)
        size = self.how.size
        if images.ndim != 4 or tuple(images.shape[1:]) != size:
            shape = " x ".join(map(str, images.shape))
            raise BadInputError(f"images are [{shape}], but the model wants [N, {', '.join(map(str, size))}]")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise BadInputError(f"images are {images.dtype}: give floating point, normalized, or 8-bit pixels")
        images = self.how.normalize(images) if images.dtype == torch.uint8 else images.float()
        return images, self.checked(labels, len(images))

    def checked(self, labels: Tensor | None, count: int) -> Tensor:
        """Labels [N] of so many images; -1 each where there are none."""
        if labels is None:
            return torch.full((count,), NO_LABEL)
        if labels.ndim != 1 or len(labels) != count or labels.is_floating_point() or labels.is_complex():
            raise BadInputError(f"labels are {tuple(labels.shape)} of {labels.dtype}: give a class index an image")
        least, most = (int(labels.min()), int(labels.max())) if count else (0, 0)
        if least < 0 or (self.classes is not None and most >= self.classes):
            bound = "" if self.classes is None else f"; the model tells {self.classes} apart"
            raise BadInputError(f"a label is {least if least < 0 else most}: labels are class indices from 0{bound}")
        return labels.long().cpu()


def _pair(given: Any) -> tuple[Tensor, Tensor | None]:
    """Images and labels, if any, of one batch; BadInputError for what is neither a tensor nor a pair of them."""
    if isinstance(given, dict):  # Hugging Face's collators
        images, labels = given.get("pixel_values", given.get("image")), given.get("labels", given.get("label"))
        given = (images,) if labels is None else (images, labels)
    parts = (given,) if isinstance(given, Tensor) else tuple(given) if isinstance(given, (tuple, list)) else ()
    if len(parts) not in (1, 2) or not all(isinstance(part, Tensor) for part in parts):
        what = type(given).__name__
        raise BadInputError(f"a batch is a {what}: give images [N, 3, H, W], or a pair of them and labels [N]")
    return parts[0].detach().cpu(), parts[1].detach() if len(parts) == 2 else None


def _whole(data: Any) -> tuple[Tensor, Tensor | None] | None:
    """Images and labels where all are in memory; None for an iterable of batches."""
    pair = isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)
    is_pair = pair and data[0].ndim == 4 and data[1].ndim == 1
    return _pair(data) if isinstance(data, (Tensor, dict)) or is_pair else None


def _in_batches(whole: tuple[Tensor, Tensor | None], batch: int, check: _Check) -> Source:
    images, labels = whole
    if labels is not None and len(labels) != len(images):
        raise BadInputError(f"{len(images)} images, but {len(labels)} labels: give one a label each")

    def batches() -> Iterator[Batch]:
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            yield check(images[part] if labels is None else (images[part], labels[part]))

    return batches


def _none(how: Preprocessing) -> Batch:
    return torch.empty(0, *how.size), torch.empty(0, dtype=torch.long)


def _source(data: Any, check: _Check, once: bool) -> Source:
    """Batches of an iterable; what can be read once alone is kept, unless it is read but `once`."""
    if not isinstance(data, Iterable):
        what = type(data).__name__
        raise BadInputError(f"data is a {what}: give images [N, 3, H, W], a pair with labels, or batches of them")
    if isinstance(data, Iterator):
        kept = data if once else list(data)
        return lambda: map(check, kept)
    return lambda: map(check, iter(data))


def _calibrated(whole: Any, source: Source, spec: Calibration) -> Batch:
    """The calibration images and labels in their order."""
    if whole is None or "list" not in spec.model_fields_set or spec.list == "first":
        return _first(source, spec.images)
    if spec.list != "seeded":
        raise BadInputError(f"calibration: images in memory have no list {spec.list}: use seeded or first")
    everything = _joined(list(source()))
    items = [Item(str(index), int(label)) for index, label in enumerate(everything[1])]
    chosen = [int(item.path) for item in enough(draw(items, spec.images, spec.seed), spec)]
    return everything[0][chosen], everything[1][chosen]


def _first(source: Source, count: int) -> Batch:
    kept, seen = [], 0
    for images, labels in source():
        kept.append((images[: count - seen], labels[: count - seen]))
        seen += len(kept[-1][0])
        if seen >= count:
            break
    if not seen:
        raise BadInputError("the data holds no images to calibrate on")
    return _joined(kept)


def _joined(batches: list[Batch]) -> Batch:
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def _fixed(whole: Batch, batch: int) -> Source:
    images, labels = whole
    parts = [slice(start, start + batch) for start in range(0, len(images), batch)]
    return lambda: Counted(((images[part].clone(), labels[part].clone()) for part in parts), len(parts))


def _digest(image: Tensor) -> str:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()


def _digests(source: Source) -> tuple[list[str], list[int]]:
    digests: list[str] = []
    labels: list[int] = []
    for images, given in source():
        digests += map(_digest, images)
        labels += given.tolist()
    return digests, labels


def _held_to(source: Source, digests: list[str]) -> Source:
    """The same batches again; BadInputError where the iterable gives others than it gave first."""

    def batches() -> Iterator[Batch]:
        seen = 0
        for images, labels in source():
            if [_digest(image) for image in images] != digests[seen : seen + len(images)]:
                raise _changed()
            seen += len(images)
            yield images, labels
        if seen != len(digests):
            raise _changed()

    return batches


def _changed() -> BadInputError:
    return BadInputError(
        "the data gave other images, or in another order, than the first time: give a DataLoader with shuffle=False "
        "and no random augmentation"
    )


def _refused(why: str) -> Source:
    def refuse() -> Iterator[Batch]:
        raise BadInputError(f"this data cannot be evaluated: {why}; give a pair of images and labels, or such batches")

    return refuse


def _training(whole: tuple[Tensor, Tensor | None], how: Preprocessing, spec: Calibration, seed: int) -> Any:
    """Batches of an epoch, shuffled by seed and epoch, without augmentation: what is in memory is no photograph."""
    check = _Check(how, None)
    images, labels = whole

    def training(epoch: int) -> Iterator[Batch]:
        assert labels is not None
        generator = torch.Generator().manual_seed(seed_of("train", seed, epoch))
        order = torch.randperm(len(images), generator=generator)
        parts = [order[start : start + spec.train_batch] for start in range(0, len(order), spec.train_batch)]
        return Counted((check((images[part], labels[part])) for part in parts), len(parts))

    return training


def epochs(data: Iterable[Any], how: Preprocessing, classes: int | None = None) -> Callable[[int], Iterator[Batch]]:
    """Training batches of a loader of (images, labels), iterated anew each epoch; shuffled and augmented as it does it.

    BadInputError for what can be read but once, and in training for a batch without labels or of another shape.
    """
    if isinstance(data, Iterator) or not isinstance(data, Iterable):
        raise BadInputError(f"training data is a {type(data).__name__}: give a loader that can be iterated every epoch")
    check = _Check(how, classes)

    def epoch(_: int) -> Iterator[Batch]:
        for given in data:
            batch = check(given)
            if int(batch[1].min()) == NO_LABEL:
                raise BadInputError("training data has no labels: give batches of (images, labels)")
            yield batch

    return lambda number: Counted(epoch(number), length_hint(data))

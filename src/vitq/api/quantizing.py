"""`vitq.quantize`: a model of one's own, by any method, on data of one's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitq.api.errors import one_line
from vitq.api.given_data import KINDS, Reading, Use, given_data, given_training, no_data, reading_of
from vitq.api.given_model import Given, Wishes, as_mapping, given_model, size_of
from vitq.errors import BadInputError, UnsupportedError
from vitq.subject import silent

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitq.api.quantized import QuantizedModel
    from vitq.benchmarks.measure.chosen import Chosen
    from vitq.benchmarks.plan.site import Site
    from vitq.datasets.base import Data
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.subject import Progress
    from vitq.tasks.described import Architecture


def quantize(
    model: nn.Module | str | Path,
    method: str,
    bits: str = "W4A4",
    data: Any = None,
    *,
    train: Any = None,
    scope: str = "model",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    images: int | None = None,
    batch: int | None = None,
    calibration: Mapping[str, Any] | None = None,
    labels: str | Path | None = None,
    classes: str | Path | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    architecture: Architecture | None = None,
    num_classes: int | None = None,
    img_size: int | None = None,
    artifacts: str | Path | None = None,
    site: str | Path | Site | None = None,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize a model by a method.

    Args:
        model: A module (of timm, or of any class that an adapter serves), the name of a model (ours or timm's), or the
            path of a checkpoint, with `architecture`. A module that is given is never changed. A word that is the name
            of a model and of a file too is refused: './NAME' is the file.
        method: Its name, as `vitq.list_methods()` gives it.
        bits: Widths of weights and activations, as `W4A4`, or `FP32`.
        data: What the method calibrates on: a tensor [N, 3, H, W], a loader or another iterable of images or of
            (images, labels), the path of a folder of images, or the name of a data set. Tensors and loaders are taken
            as already normalized; a folder's images are prepared as the model wants them. None where the method reads
            no data. A word that is the name of a data set and of a folder too is refused: './NAME' (or a `Path`) is the
            folder, 'dataset:NAME' the data set.
        train: Labelled data of the same kinds, for methods that train (`i_vit`, `binary_vit`).
        scope: What is quantized: `model` for the whole, or the path of a module in it.
        options: Options of the method that differ from their defaults; `vitq.method_card(method)` lists them.
        seed: Of every random choice.
        device: Where to compute; by default where the module is, else `cpu`. The result is left there.
        images: How many images calibrate; 32 by default, or all of a tensor or loader that has fewer.
        batch: Of how many images a calibration batch consists; 32 by default.
        calibration: Any other setting of a suite's `calibration`, as {"list": "first", "split": "val"}.
        labels: A CSV of the columns image and label, for a folder that is not sorted by class.
        classes: A file of the names of a folder's classes in the order of the model's numbers: a line each, or JSON
            (`class_to_idx`, `id2label`); by default they are sorted.
        preprocessing: How a folder's images become inputs, where it is not as the model's own configuration says.
        architecture: Of a checkpoint: timm's name of it.
        num_classes: Of a checkpoint; read from it by default.
        img_size: Side of the images, where it is not the architecture's own.
        artifacts: A folder that keeps what the method leaves (generated images, curves, checkpoints).
        site: The site file that says where data sets and weights are, or one that was read; by default as for the
            command line.
        progress: Called as `progress(phase, done, total)`.

    Returns:
        The quantized model, which computes as `model` does.

    Raises:
        BadInputError: what was given cannot be used; one line says what to give.
        UnsupportedError: the method has no form of this model, or not at these widths; one line says why.

    Examples:
        >>> import vitq
        >>> small = vitq.quantize("digits_vit", "minmax", bits="W8A8", data="digits")
        >>> small.size.ratio > 3
        True
    """
    wishes = Wishes(preprocessing, architecture, num_classes, img_size, size_of(data) or size_of(train))
    chosen = _chosen(method, bits, scope, options)
    settings = as_mapping(calibration, "calibration") | _said(images=images, batch=batch)
    with one_line():
        given = given_model(model, wishes, device, site)
        reading = reading_of(settings, labels, classes, batch=reading_batch(settings), seed=seed)
        opened = _data(chosen, given, reading, data, train)
        return _quantized(chosen, given, opened, reading, artifacts, progress or silent)


def _said(**values: int | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def reading_batch(settings: Mapping[str, Any]) -> int:
    """How many images a batch of a tensor holds where no data set says it."""
    batch = settings.get("batch", 64)
    return batch if isinstance(batch, int) and batch > 0 else 64


def _chosen(method: str, bits: str, scope: str, options: Mapping[str, Any] | None) -> Chosen:
    """The method with all its options; refused, before anything is loaded, where it cannot do this at all."""
    from vitq.benchmarks.measure.chosen import Chosen
    from vitq.methods.bits import Bits
    from vitq.methods.cards import all_cards
    from vitq.methods.registry import METHODS
    from vitq.options import fault

    METHODS.offer(method)
    card, given = all_cards()[method], as_mapping(options, "options")
    wrong = next(filter(None, (fault(card.options, name, value, method) for name, value in given.items())), None)
    if wrong:
        raise BadInputError(wrong)
    recorded = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    try:
        Bits.parse(bits)
    except (ValueError, TypeError) as error:
        raise BadInputError(str(error)) from None
    chosen = Chosen(method, {n: o.recorded for n, o in card.options.items()} | recorded, bits, scope)
    with one_line():
        reason = card.supports.refuses(chosen.widths) or chosen.refused()
    if reason:
        raise UnsupportedError(reason)
    return chosen


def _data(chosen: Chosen, given: Given, reading: Reading, data: Any, train: Any) -> Data:
    """What the method reads; BadInputError where it reads what was not given."""
    trains = chosen.reads("training")
    if data is None and chosen.reads("calibration"):
        raise BadInputError(f"{chosen.method} calibrates on images: give data=, {KINDS}")
    use: Use = "training" if trains and train is None else "calibration"
    opened = no_data() if data is None else given_data(data, given, reading, use, strict=use == "training")
    if train is not None:
        opened = replace(opened, training=given_training(train, given, reading))
    if trains and opened.training is None:
        raise BadInputError(
            f"{chosen.method} trains on labelled images under these options: give train=, (images, labels) or a folder "
            "of a folder a class, or options={'epochs': 0}"
        )
    return opened


def _quantized(
    chosen: Chosen, given: Given, data: Data, reading: Reading, artifacts: str | Path | None, progress: Progress
) -> QuantizedModel:
    """The work itself, as a cell of a suite does it: settings of floating-point arithmetic, seeds, subject, method."""
    from vitq.api.placing import on_meta
    from vitq.api.quantized import Origin, QuantizedModel
    from vitq.benchmarks.measure.quantizing import Quantizing
    from vitq.datasets.batches import seeded
    from vitq.methods.toolkit import devices
    from vitq.subject import part_of

    part_of(given.loaded.model, chosen.scope)
    fp = on_meta(given.loaded.model)
    identity = _identity(chosen, given, data, reading.seed)
    with _folder(artifacts) as folder, devices.deterministic(), seeded(reading.seed):
        devices.use(given.device)
        work = Quantizing(
            given.task, chosen, given.loaded, data, reading.seed, given.device, folder, progress,
            reading.calibration.get("batch"),
        )  # fmt: skip
        done = work.run()
    made = done.model.to(given.device).eval()
    origin = Origin(
        chosen, given.task, lambda: fp, given.loaded.preprocessing, done.exec, given.entry, given.why, done.facts,
        identity, done.details, {} if artifacts is None else done.files,
    )  # fmt: skip
    return QuantizedModel(made, origin)


@contextmanager
def _folder(artifacts: str | Path | None) -> Iterator[Path]:
    """The folder that is named, made where it is not there; else one that is gone afterwards."""
    if artifacts is None:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
        return
    folder = Path(artifacts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"artifacts cannot be kept in {folder}: {error.strerror or error}") from error
    yield folder


def _identity(chosen: Chosen, given: Given, data: Data, seed: int) -> dict[str, str]:
    """What decided the model, as far as a file can say it: weights, images, seed, versions."""
    import hashlib

    from vitq.benchmarks.plan.identity import version
    from vitq.tasks.weights import tensors_sha256

    listed = hashlib.sha256(data.calibration_list.encode()).hexdigest()
    return {
        "made by": "vitq.quantize",
        "method": chosen.method,
        "weights": given.loaded.weights_sha256 or tensors_sha256(given.loaded.model),
        "calibration": listed if chosen.reads("calibration") else "not read",
        "seed": str(seed),
        "packages": ", ".join(f"{name} {version(name)}" for name in ("vitq", "torch", "timm", "numpy")),
    }

"""`vitq.quantize`: a model of one's own, by any method, on data of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitq.api.quantized import QuantizedModel
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.subject import Progress


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
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    architecture: str | None = None,
    num_classes: int | None = None,
    img_size: int | None = None,
    artifacts: str | Path | None = None,
    site: str | Path | None = None,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize a model by a method.

    Args:
        model: A module (of timm, or of any class that an adapter serves), the name of a model (ours or timm's), or the
            path of a checkpoint, with `architecture`. A module that is given is never changed.
        method: Its name, as `vitq.list_methods()` gives it.
        bits: Widths of weights and activations, as `W4A4`, or `FP32`.
        data: What the method calibrates on: a tensor [N, 3, H, W], a loader or another iterable of images or of
            (images, labels), the path of a folder of images, or the name of a data set. Tensors and loaders are taken
            as already normalized; a folder's images are prepared as the model wants them. None where the method reads
            no data.
        train: Labelled data of the same kinds, for methods that train (`i_vit`, `binary_vit`).
        scope: What is quantized: `model` for the whole, or the path of a module in it.
        options: Options of the method that differ from their defaults; `vitq.method_card(method)` lists them.
        seed: Of every random choice.
        device: Where to compute; by default where the module is, else `cpu`. The result is left there.
        images: How many images calibrate; 32 by default, or all of a tensor or loader that has fewer.
        batch: Of how many images a calibration batch consists; 32 by default.
        calibration: Any other setting of a suite's `calibration`, as {"list": "first", "split": "val"}.
        labels: A CSV of the columns image and label, for a folder that is not sorted by class.
        preprocessing: How a folder's images become inputs, where it is not as the model's own configuration says.
        architecture: Of a checkpoint: timm's name of it.
        num_classes: Of a checkpoint; read from it by default.
        img_size: Side of the images, where it is not the architecture's own.
        artifacts: A folder that keeps what the method leaves (generated images, curves, checkpoints).
        site: The site file that says where data sets and weights are; by default as for the command line.
        progress: Called as `progress(phase, done, total)`.

    Returns:
        The quantized model, which computes as `model` does.

    Raises:
        BadInputError: what was given cannot be used; one line says what to give.
        UnsupportedError: the method has no form of this model, or not at these widths; one line says why.

    Example:
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
        reading = Reading(settings, None if labels is None else Path(labels), batch=reading_batch(settings), seed=seed)
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
    opened = NO_DATA() if data is None else given_data(data, given, reading, "calibration", strict=False)
    if train is not None:
        opened = replace(opened, training=given_data(train, given, reading, "training").training)
    elif trains and data is not None:
        opened = replace(opened, training=given_data(data, given, reading, "training").training)
    if trains and opened.training is None:
        raise BadInputError(
            f"{chosen.method} trains on labelled images under these options: give train=, (images, labels) or a folder "
            "of a folder a class, or options={'epochs': 0}"
        )
    return opened
